// One block of 32 floats to int8, with the scale as it is: what quantize.h begins with, and what the cache's q8_0 is.
//
// Functions here are static: see reduce.h.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "../core/weights.h"
#include "quantize.h"

namespace cria::cpu {

// The largest |x|. As bits, magnitudes compare as integers, with infinity and NaN above every number.
static inline float largest_magnitude(const float* x) {
  std::uint32_t bits = 0;
  for (std::size_t k = 0; k < kBlock; ++k) bits = std::max(bits, std::bit_cast<std::uint32_t>(x[k]) & 0x7fffffff);
  return std::bit_cast<float>(bits);
}

// x scaled so that the largest is 127: an infinity or NaN, whose block's inverse is 0, becomes 0.
static inline float scaled_to_quants(float x, const BlockScale& block) {
  return block.inverse == 0.0f ? 0.0f : x * block.inverse;
}

// Returns the scale. The specification of the vector form.
static inline float quantize_block(const float* x, std::int8_t* quants) {
  const BlockScale block = block_scale(largest_magnitude(x));
  for (std::size_t k = 0; k < kBlock; ++k) {
    quants[k] = static_cast<std::int8_t>(std::nearbyint(scaled_to_quants(x[k], block)));
  }
  return block.scale;
}

#ifdef __AVX2__
// 32 quants, from int32 to int8.
static inline __m256i narrow_quants(const __m256i (&q)[4]) {
  // The packs work in each half of a register: afterwards every fourth group of four stands in order.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i in_order = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  // -128 is what an infinity or NaN, times the 0 of its block's inverse, turned into: nothing else is below -127.
  return _mm256_andnot_si256(_mm256_cmpeq_epi8(in_order, _mm256_set1_epi8(-128)), in_order);
}

// quantize_block, in eights.
static inline float quantize_block_8(const float* x, std::int8_t* quants) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (std::size_t k = 0; k < kBlock; k += 8) {
    most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + k)), magnitude));
  }
  const __m128i four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  const __m128i two = _mm_max_epu32(four, _mm_shuffle_epi32(four, _MM_SHUFFLE(1, 0, 3, 2)));
  const __m128i one = _mm_max_epu32(two, _mm_shuffle_epi32(two, _MM_SHUFFLE(2, 3, 0, 1)));
  const BlockScale block = block_scale(std::bit_cast<float>(_mm_cvtsi128_si32(one)));

  __m256i q[4];
  for (std::size_t i = 0; i < 4; ++i) {
    q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), _mm256_set1_ps(block.inverse)));
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), narrow_quants(q));
  return block.scale;
}
#endif

}  // namespace cria::cpu
