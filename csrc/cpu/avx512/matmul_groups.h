// What the products with weights of a scale for each 16 columns (q2_K, q3_K, q6_K) have in common: all but how a block
// is taken apart.
//
// The specification adds up, in integers, s_h (Σ u q - z Σ q) of the two groups h of a block. Here each group's sum is
// made a float first, and so are the scales: s_h below 2^8 and sums below 2^16 leave every product and their sum below
// 2^24, so that nothing is rounded, and the multiply-add takes the place of two slow integer multiplications.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "matmul_q.h"

namespace cria::cpu::avx512 {

static inline __m512 widen_scales(const std::uint16_t (&scale)[kPanelRows]) {
  return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(scale)));
}

// A superblock whose scale stands behind its words leaves the next one's lines across two cache lines.
static inline __m512i load_words(const std::uint8_t* line) { return _mm512_loadu_si512(line); }

// Byte `at` of each row's word, with its sign.
static inline __m512i signed_byte(__m512i words, int at) {
  return _mm512_srai_epi32(_mm512_sll_epi32(words, _mm_cvtsi32_si128(24 - 8 * at)), 24);
}

// A block whose quants and whose two groups' scales are kept apart. Format has
//     kZero                        the weights' zero point
//     words(superblock, b, word)   block b's quants, unsigned
//     scales(superblock, word)     in a row's word the scales of groups 4 word ... 4 word + 3, signed bytes
template <class Format, int Count>
struct GroupOperands {
  using Superblock = typename Format::Superblock;
  __m512i word[Count][kWords];
  __m512 group_scale[2][Count], lead[Count];

  static const QuantSums* token_sums(const QuantRows& x) { return x.sums; }

  [[gnu::always_inline]] void open(const Superblock* const (&)[Count]) {}

  [[gnu::always_inline]] void load(const Superblock* const (&superblock)[Count], std::size_t b) {
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      Format::words(*superblock[p], b, word[p]);
      const __m512i scales = Format::scales(*superblock[p], b / 2);
      const int at = static_cast<int>(b % 2 * 2);
      group_scale[0][p] = _mm512_cvtepi32_ps(signed_byte(scales, at));
      group_scale[1][p] = _mm512_cvtepi32_ps(signed_byte(scales, at + 1));
      lead[p] = widen_scales(superblock[p]->scale);
    }
  }

  [[gnu::always_inline]] void add(const std::int8_t* q, float x_scale, QuantSums x_sums, __m512 (&sum)[Count]) const {
    const __m512i sums = _mm512_set1_epi32(x_sums);
    __m512i dot[2][Count];
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      dot[0][p] = _mm512_madd_epi16(sums, _mm512_set1_epi32(quant_sums(-Format::kZero, 0)));
      dot[1][p] = _mm512_madd_epi16(sums, _mm512_set1_epi32(quant_sums(0, -Format::kZero)));
    }
    multiply_words<0, kWords / 2>(word, q, dot[0]);
    multiply_words<kWords / 2, kWords>(word, q, dot[1]);
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      const __m512 last = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[1][p]), group_scale[1][p]);
      const __m512 both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[0][p]), group_scale[0][p], last);
      sum[p] = _mm512_fmadd_ps(both, _mm512_mul_ps(lead[p], _mm512_set1_ps(x_scale)), sum[p]);
    }
  }
};

}  // namespace cria::cpu::avx512
