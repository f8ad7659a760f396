// What the products with q4_0 and q8_0 weights have in common: all but the integer dot product of a block.
//
// A tile is the 16 rows of one panel and a few tokens. A weight line is loaded and taken apart once for the tile, an
// activation word is broadcast once for the 16 rows, and all outputs of the tile are independent chains.
//
//                     row 0 ... 7      row 8 ... 15
//       line g      | w(4g..4g+3) x 8 | w(4g..4g+3) x 8 |     u8, the unsigned operand of vpmaddubsw
//       token t     | q(4g..4g+3), broadcast to all     |     s8, the signed one
//       sum[t][h]   | 16 x int16: two pair sums a row, over the block's k
//       dot[t][h]   |  8 x int32: one a row
//       out[t][h]   |  8 x f32
//
// A Format has
//     Superblock                the one of panel.h
//     kZero                     the weights' zero point, a power of two
//     dot(lines, q, ..., dot)   dot[t][h] = Σ_k u_k q_k over one block, u being the unsigned weights
#pragma once

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../matmul.h"
#include "store_rows.h"
#include "tiles.h"

namespace cria::cpu::avx2 {

// Four activations, for all rows.
static inline __m256i broadcast_word(const std::int8_t* q) {
  std::int32_t word;
  std::memcpy(&word, q, sizeof word);
  return _mm256_set1_epi32(word);
}

static inline __m256i load_half(const std::uint8_t (&line)[kLine], std::size_t half) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(line + half * sizeof(__m256i)));
}

// Keeps a sum as it was written. GCC 12 would otherwise turn a chain of integer additions into a tree, whose leaves,
// twice as many as there are registers, it then spills: a third of the speed.
static inline void keep_chain(__m256i& sum) { asm("" : "+x"(sum)); }

static inline __m256 load_scales(const std::uint16_t (&scales)[kPanelRows], std::size_t half) {
  return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(scales + half * kHalfRows)));
}

template <class Superblock>
static inline void prefetch(const Superblock* superblock) {
  const char* ahead = reinterpret_cast<const char*>(superblock) + kPrefetchBytes;
#pragma GCC unroll 17
  for (std::size_t line = 0; line < sizeof(Superblock); line += kLine) _mm_prefetch(ahead + line, _MM_HINT_T0);
}

// Tokens [token, token + Tokens) of one panel.
template <class Format, int Tokens>
static void tile(const MatmulQ& op, std::size_t panel, std::size_t token) {
  const auto* superblock = panel_superblocks<typename Format::Superblock>(op.weights, panel);
  const std::size_t blocks = op.weights.cols / kBlock, step = op.x.row_step;

  __m256 out[Tokens][kHalves] = {};
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t side = b % kSuperblockBlocks;
    if (side == 0) prefetch(superblock);

    __m256i dot[Tokens][kHalves];
    Format::dot(superblock->quants[side], op.x.block(token, b), step * kBlock, dot);
    const float* scales = op.x.scales + op.x.at(token, b);
    const std::int32_t* sums = op.x.sums + op.x.at(token, b);

#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
      const __m256 weight_scale = load_scales(superblock->scale[side], h);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        const __m256i sum = _mm256_set1_epi32(sums[t * step]);
        const __m256i product = _mm256_sub_epi32(dot[t][h], _mm256_slli_epi32(sum, std::countr_zero(Format::kZero)));
        const __m256 scale = _mm256_mul_ps(weight_scale, _mm256_set1_ps(scales[t * step]));
        out[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), scale, out[t][h]);
      }
    }
    superblock += side;
  }

  for (std::size_t h = 0; h < kHalves; ++h) {
    const std::size_t row = panel * kPanelRows + h * kHalfRows;
    if (row >= op.weights.rows) break;
    for (int t = 0; t < Tokens; ++t) {
      store_rows(op.out + (token + t) * op.out_stride + row, out[t][h], op.weights.rows - row);
    }
  }
}

template <class Format>
static void matmul_q(const MatmulQ& op, std::size_t begin, std::size_t end) {
  static constexpr Tiles<MatmulQ> kTiles = {tile<Format, 1>, tile<Format, 2>, tile<Format, 3>};
  for (std::size_t panel = begin; panel < end; ++panel) run_tiles(op, panel, kTiles);
}

}  // namespace cria::cpu::avx2
