// As avx512/scales.h, by halves of a panel's rows: open(superblock) and of(superblock, b, half).
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "../quantize.h"
#include "finish.h"

namespace cria::cpu::avx2 {

static inline __m256i load_half(const std::uint8_t (&line)[kLine], std::size_t half) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(line + half * sizeof(__m256i)));
}

static inline __m256i low_nibbles(__m256i line) { return _mm256_and_si256(line, _mm256_set1_epi8(15)); }
static inline __m256i high_nibbles(__m256i line) { return low_nibbles(_mm256_srli_epi16(line, 4)); }

static inline __m256 load_scales(const std::uint16_t (&scales)[kPanelRows], std::size_t half) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(scales + half * kHalfRows)));
}

// Of a scale and a zero point, which is 2^k times quantize.h's.
template <std::int32_t zero>
struct Scale {
  __m256 step;

  [[gnu::always_inline]] __m256 add(__m256 sum, __m256i dot, float x_scale, std::int32_t x_seed) const {
    const __m256i seed = _mm256_slli_epi32(_mm256_set1_epi32(x_seed), std::countr_zero<std::uint32_t>(zero / -kSeed));
    const __m256 scale = _mm256_mul_ps(step, _mm256_set1_ps(x_scale));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(dot, seed)), scale, sum);
  }
};

// Of a scale and a minimum.
struct Line {
  __m256 step, lift;

  [[gnu::always_inline]] __m256 add(__m256 sum, __m256i dot, float x_scale, std::int32_t x_seed) const {
    const __m256 scale = _mm256_set1_ps(x_scale);
    const __m256 seed = _mm256_cvtepi32_ps(_mm256_set1_epi32(x_seed));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(step, scale), sum);
    return _mm256_fmadd_ps(lift, _mm256_mul_ps(seed, scale), sum);
  }
};

// Of a line of words of two halves, the lower ones and the upper ones.
static inline Line lead_halves(const std::uint8_t (&lead)[kLine], std::size_t half) {
  const __m256i apart =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
  const __m256i both = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(load_half(lead, half), apart), 0b11011000);
  return {_mm256_cvtph_ps(_mm256_castsi256_si128(both)), _mm256_cvtph_ps(_mm256_extracti128_si256(both, 1))};
}

template <class Superblock, std::int32_t zero>
struct PairScales {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Scale<zero> of(const Superblock& superblock, std::size_t b, std::size_t half) const {
    return {load_scales(superblock.scale[b], half)};
  }
};

template <class Superblock>
struct LeadLines {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Line of(const Superblock& superblock, std::size_t, std::size_t half) const {
    const Line lead = lead_halves(superblock.lead, half);
    return {lead.step, _mm256_mul_ps(lead.lift, _mm256_set1_ps(1.0f / kSeed))};
  }
};

template <class Superblock>
struct LeadZeros {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Line of(const Superblock& superblock, std::size_t, std::size_t half) const {
    const Line lead = lead_halves(superblock.lead, half);
    return {lead.step, _mm256_mul_ps(lead.step, _mm256_mul_ps(lead.lift, _mm256_set1_ps(1.0f / -kSeed)))};
  }
};

template <class Superblock>
struct SixBitLines {
  Line lead[kHalves];
  __m256i scales[2][kHalves], minima[2][kHalves];

  [[gnu::always_inline]] void open(const Superblock& superblock) {
    const __m256i six = _mm256_set1_epi8(63), upper = _mm256_set1_epi8(48);
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
      lead[h] = lead_halves(superblock.lead, h);
      lead[h].lift = _mm256_mul_ps(lead[h].lift, _mm256_set1_ps(1.0f / -kSeed));
      const __m256i first = load_half(superblock.scales[0], h), second = load_half(superblock.scales[1], h);
      const __m256i third = load_half(superblock.scales[2], h);
      scales[0][h] = _mm256_and_si256(first, six);
      minima[0][h] = _mm256_and_si256(second, six);
      scales[1][h] = _mm256_or_si256(low_nibbles(third), _mm256_and_si256(_mm256_srli_epi16(first, 2), upper));
      minima[1][h] = _mm256_or_si256(high_nibbles(third), _mm256_and_si256(_mm256_srli_epi16(second, 2), upper));
    }
  }
  [[gnu::always_inline]] Line of(const Superblock&, std::size_t b, std::size_t half) const {
    const __m256i place = _mm256_set1_epi32(static_cast<int>(b % 4 * 8)), byte = _mm256_set1_epi32(255);
    const auto number = [&](__m256i words) {
      return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srlv_epi32(words, place), byte));
    };
    return {_mm256_mul_ps(lead[half].step, number(scales[b / 4][half])),
            _mm256_mul_ps(lead[half].lift, number(minima[b / 4][half]))};
  }
};

}  // namespace cria::cpu::avx2
