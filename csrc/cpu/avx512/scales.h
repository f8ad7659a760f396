// What the quants of a panel's blocks stand for, and how a block's dot products become a part of the sums by it. The
// scalar twins are scalar/matmul_q.h and scalar/matmul_min.h.
//
// Scales of a Superblock have
//     open(superblock)     takes apart what its blocks share; called before its first block
//     of(superblock, b)    what the quants of block b stand for, in 16 rows:
//         start(x_seed)                     what a dot product starts from
//         add(sum, dot, x_scale, x_seed)    sum + the block's product; x_scale and x_seed are the token's
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>

#include "../panel.h"
#include "../quantize.h"

namespace cria::cpu::avx512 {

static inline __m512i load_line(const std::uint8_t (&line)[kLine]) {
  return _mm512_load_si512(reinterpret_cast<const __m512i*>(line));
}

static inline __m512i low_nibbles(__m512i line) { return _mm512_and_si512(line, _mm512_set1_epi8(15)); }
static inline __m512i high_nibbles(__m512i line) { return low_nibbles(_mm512_srli_epi16(line, 4)); }

// The low nibble of each byte of one, with the bits `upper` of that of the other, which follow them.
template <int upper>
static inline __m512i with_upper_bits(__m512i nibbles, __m512i others) {
  constexpr int kOther = 0xe4;  // c ? a : b, a being the nibbles and c the mask
  const __m512i both = _mm512_ternarylogic_epi32(nibbles, others, _mm512_set1_epi8(15), kOther);
  return _mm512_and_si512(both, _mm512_set1_epi8(15 + upper));
}

// Of a scale and a zero point, which is 2^k times quantize.h's.
template <std::int32_t zero>
struct Scale {
  __m512 step;

  [[gnu::always_inline]] static __m512i start(std::int32_t x_seed) {
    return _mm512_slli_epi32(_mm512_set1_epi32(x_seed), std::countr_zero<std::uint32_t>(zero / -kSeed));
  }
  [[gnu::always_inline]] __m512 add(__m512 sum, __m512i dot, float x_scale, std::int32_t) const {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(step, _mm512_set1_ps(x_scale)), sum);
  }
};

// Of a scale and a minimum: see scalar/matmul_min.h.
struct Line {
  __m512 step, lift;

  [[gnu::always_inline]] static __m512i start(std::int32_t) { return _mm512_setzero_si512(); }
  [[gnu::always_inline]] __m512 add(__m512 sum, __m512i dot, float x_scale, std::int32_t x_seed) const {
    const __m512 scale = _mm512_set1_ps(x_scale);
    const __m512 seed = _mm512_cvtepi32_ps(_mm512_set1_epi32(x_seed));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(step, scale), sum);
    return _mm512_fmadd_ps(lift, _mm512_mul_ps(seed, scale), sum);
  }
};

// The halves of the words of `lead`.
static inline __m512 lower_half(__m512i lead) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(lead)); }
static inline __m512 upper_half(__m512i lead) { return lower_half(_mm512_srli_epi32(lead, 16)); }

// Of blocks with a scale each.
template <class Superblock, std::int32_t zero>
struct PairScales {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Scale<zero> of(const Superblock& superblock, std::size_t b) const {
    return {_mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(superblock.scale[b])))};
  }
};

// Of superblocks that are a block, with a scale and a minimum, which is added.
template <class Superblock>
struct LeadLines {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Line of(const Superblock& superblock, std::size_t) const {
    const __m512i lead = load_line(superblock.lead);
    return {lower_half(lead), _mm512_mul_ps(upper_half(lead), _mm512_set1_ps(1.0f / kSeed))};
  }
};

// Of superblocks that are a block, with a scale and a zero: exact, as 11 bits times 11.
template <class Superblock>
struct LeadZeros {
  [[gnu::always_inline]] void open(const Superblock&) {}
  [[gnu::always_inline]] Line of(const Superblock& superblock, std::size_t) const {
    const __m512i lead = load_line(superblock.lead);
    const __m512 step = lower_half(lead);
    return {step, _mm512_mul_ps(step, _mm512_mul_ps(upper_half(lead), _mm512_set1_ps(1.0f / -kSeed)))};
  }
};

// Of superblocks of eight blocks, whose scales and minima have 6 bits: decode.cc draws them.
template <class Superblock>
struct SixBitLines {
  __m512 scale, lift;
  __m512i scales[2], minima[2];  // byte i of each row's word is block i's, or i + 4's

  [[gnu::always_inline]] void open(const Superblock& superblock) {
    const __m512i lead = load_line(superblock.lead);
    scale = lower_half(lead);
    lift = _mm512_mul_ps(upper_half(lead), _mm512_set1_ps(1.0f / -kSeed));
    const __m512i six = _mm512_set1_epi8(63), upper = _mm512_set1_epi8(48);
    const __m512i first = load_line(superblock.scales[0]), second = load_line(superblock.scales[1]);
    const __m512i third = load_line(superblock.scales[2]);
    scales[0] = _mm512_and_si512(first, six);
    minima[0] = _mm512_and_si512(second, six);
    scales[1] = _mm512_or_si512(low_nibbles(third), _mm512_and_si512(_mm512_srli_epi16(first, 2), upper));
    minima[1] = _mm512_or_si512(high_nibbles(third), _mm512_and_si512(_mm512_srli_epi16(second, 2), upper));
  }
  // 6 bits times the 11 of a half-precision number: exact, and so is an eighth of it.
  [[gnu::always_inline]] Line of(const Superblock&, std::size_t b) const {
    const __m512i place = _mm512_set1_epi32(static_cast<int>(b % 4 * 8)), byte = _mm512_set1_epi32(255);
    const auto number = [&](__m512i words) {
      return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srlv_epi32(words, place), byte));
    };
    return {_mm512_mul_ps(scale, number(scales[b / 4])), _mm512_mul_ps(lift, number(minima[b / 4]))};
  }
};

}  // namespace cria::cpu::avx512
