// Registers of 8 and 16 floats by the same names, so that attention_tile.h is written once for both.
//
// In an anonymous namespace: each instruction set's files compile a copy of their own (see reduce.h).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "exp.h"
#include "reduce.h"

namespace cria::cpu {
namespace {

#ifdef __AVX2__
struct Lanes8 {
  using Register = __m256;
  static constexpr int kWidth = 8;

  static Register zero() { return _mm256_setzero_ps(); }
  static Register all(float x) { return _mm256_set1_ps(x); }
  static Register load(const float* x) { return _mm256_loadu_ps(x); }
  static Register load(const std::uint16_t* half) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half)));
  }
  static Register load(const std::int8_t* quants) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(quants)));
  }
  static void store(float* to, Register x) { _mm256_storeu_ps(to, x); }

  static Register add(Register a, Register b) { return _mm256_add_ps(a, b); }
  static Register sub(Register a, Register b) { return _mm256_sub_ps(a, b); }
  static Register mul(Register a, Register b) { return _mm256_mul_ps(a, b); }
  static Register fma(Register a, Register b, Register c) { return _mm256_fmadd_ps(a, b, c); }
  static Register larger(Register x, Register m) { return _mm256_max_ps(x, m); }  // m where x is NaN

  // x in lanes 0 ... n - 1, `other` in those after; n may be more than there are.
  static Register first(std::size_t n, Register x, Register other) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
    return _mm256_blendv_ps(other, x, _mm256_castsi256_ps(below));
  }

  static float largest(Register x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static float sum(const Register (&lanes)[2]) { return sum_lanes(lanes[0], lanes[1]); }
};
#endif

#ifdef __AVX512F__
struct Lanes16 {
  using Register = __m512;
  static constexpr int kWidth = 16;

  static Register zero() { return _mm512_setzero_ps(); }
  static Register all(float x) { return _mm512_set1_ps(x); }
  static Register load(const float* x) { return _mm512_loadu_ps(x); }
  static Register load(const std::uint16_t* half) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
  }
  static Register load(const std::int8_t* quants) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(quants))));
  }
  static void store(float* to, Register x) { _mm512_storeu_ps(to, x); }

  static Register add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register sub(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register mul(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register fma(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
  static Register larger(Register x, Register m) { return _mm512_max_ps(x, m); }

  static Register first(std::size_t n, Register x, Register other) {
    const __mmask16 below = n >= 16 ? 0xffff : static_cast<__mmask16>((1u << n) - 1);
    return _mm512_mask_mov_ps(other, below, x);
  }

  static float largest(Register x) {
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
    return Lanes8::largest(_mm256_max_ps(_mm512_castps512_ps256(x), high));
  }
  static float sum(const Register (&lanes)[1]) { return sum_lanes(lanes[0]); }
};
#endif

}  // namespace
}  // namespace cria::cpu
