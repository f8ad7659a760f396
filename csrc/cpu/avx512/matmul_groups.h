// What the products with weights of a scale for each 16 columns (q2_K, q3_K, q6_K) have in common: all but how a block
// is taken apart.
//
// The specification adds up, in integers, s_h (Σ u q - z Σ q) of the two groups h of a block. Here each group's sum is
// made a float first, and so are the scales: s_h below 2^8 and sums below 2^16 leave every product and their sum below
// 2^24, so that nothing is rounded, and the multiply-add takes the place of two slow integer multiplications.
//
// A Format has
//     Superblock                        the one of panel.h
//     kByHalves                         avx2's product, for one token or two: see matmul_q.h
//     Operands<Count>                   a block of `Count` panels, taken apart:
//         load(superblocks, b)          block b of each
//         add(q, x_scale, x_sums, sum)  sum[p] += this block's product with one token's
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

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
#pragma GCC unroll 8
    for (int g = 0; g < kWords; ++g) {
      const __m512i four = broadcast_word(q + 4 * g);
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) {
        dot[g / 4][p] = _mm512_dpbusd_epi32(dot[g / 4][p], word[p][g], four);
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      const __m512 last = _mm512_mul_ps(_mm512_cvtepi32_ps(dot[1][p]), group_scale[1][p]);
      const __m512 both = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[0][p]), group_scale[0][p], last);
      sum[p] = _mm512_fmadd_ps(both, _mm512_mul_ps(lead[p], _mm512_set1_ps(x_scale)), sum[p]);
    }
  }
};

template <class Format, int Count>
static void group_sums(const MatmulQ& op, const Stream<typename Format::Superblock> (&stream)[Count], std::size_t token,
                       std::size_t count, Sums<Count>& sums) {
  constexpr std::size_t kBlocks = Format::Superblock::kCols / kBlock;
  const std::size_t ahead = prefetch_superblocks<typename Format::Superblock>(count);
  std::memset(sums.of, 0, count * sizeof sums.of[0]);
  for (std::size_t block = 0; block < op.weights.cols / kBlock; ++block) {
    const std::size_t b = block % kBlocks;
    const typename Format::Superblock* superblock[Count];
    for (int p = 0; p < Count; ++p) {
      superblock[p] = stream[p].here + block / kBlocks;
      stream[p].prefetch(block / kBlocks + ahead, b);
    }
    typename Format::template Operands<Count> operands;
    operands.load(superblock, b);

    const std::size_t at = op.x.at(token, block);
    const std::int8_t* q = op.x.quants + at * kBlock;
    const float* scale = op.x.scales + at;
    const QuantSums* x_sums = op.x.sums + at;
    for (std::size_t t = 0; t < count; ++t) {
      float(&of)[Count][kPanelRows] = sums.of[t];
      __m512 sum[Count];
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) sum[p] = _mm512_load_ps(of[p]);
      operands.add(q, *scale, *x_sums, sum);
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) _mm512_store_ps(of[p], sum[p]);
      q += op.x.row_step * kBlock;
      scale += op.x.row_step;
      x_sums += op.x.row_step;
    }
  }
}

template <class Format>
static void matmul_groups(const MatmulQ& op, std::size_t begin, std::size_t end) {
  if (op.tokens <= kMostByHalves) return Format::kByHalves(op, begin, end);
  wide<typename Format::Superblock>(op, begin, end, [&](const auto& streams, auto token, auto count, auto& sums) {
    group_sums<Format>(op, streams, token, count, sums);
  });
}

}  // namespace cria::cpu::avx512
