// What the products with weights of a scale for each 32 columns have in common: all but how a block is taken apart.
//
//                     row 0 ... 7      row 8 ... 15
//       word g      | w(4g..4g+3) x 8 | w(4g..4g+3) x 8 |     u8, the unsigned operand of vpmaddubsw, g < 8
//       token t     | q(4g..4g+3), broadcast to all     |     s8, the signed one
//       int16 sums  | 16: two pair sums a row           |     a row's four products of a word go to two lanes; over the
//                                                             block each takes 16, of words below 16 at most
//                                                             16 * 15 * 127 = 30480 in magnitude, so int16 holds them;
//                                                             one vpmaddwd adds the two
//       dot         |  8 x int32: one a row             |
//       sum         |  8 x f32                          |
//
// The weights of q4_0 are such words. Those of q8_0 are two planes of them, u = low + 16 high, because pairs of u8 x s8
// products would saturate int16; the vpmaddwd of the high plane multiplies by 16. Words of five bits are below 32, and
// half a block's sums fit, 8 * 31 * 127 = 31496: there each half has a vpmaddwd.
//
// One token or two keep `sum` in registers. With more, a block stays and the tokens go by, as in avx512/matmul_q.h; of
// its words those of half its columns fit the registers, so the tokens go by twice, and the int16 sums of the first
// half wait in L1. Of every 22 operations that the multiplier's two pipes then take 16 are vpmaddubsw: 73 % of its peak
// is the most there is. Five bits take two more, and a minimum three.
//
// A Format has
//     Superblock      the one of panel.h
//     Scales          one of those of scales.h
//     kPlanes         1 or 2
//     kMost           the largest u of a plane
//     kTogether       blocks whose words share lines, and which are taken apart in one step: 1 or 2
//     word(superblock, step, i, plane, g, h)   word g of the plane of the step's block i, its rows of half h
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../stream.h"
#include "finish.h"
#include "scales.h"

namespace cria::cpu::avx2 {

constexpr int kWords = kBlock / 4, kHalfWords = kWords / 2;

// From three tokens on a second pass over them is cheaper than what one more tile of one or two costs, which takes
// every block apart again.
constexpr std::size_t kNarrow = 2;

// As in avx512/matmul_q.h.
constexpr std::size_t kTokenBlock = 128;

// Four activations, for all rows.
static inline __m256i broadcast_word(const std::int8_t* q) {
  std::int32_t word;
  std::memcpy(&word, q, sizeof word);
  return _mm256_set1_epi32(word);
}

// Word g of a block whose nibbles are of columns 16 apart.
static inline __m256i nibble_word(const std::uint8_t (*lines)[kLine], int g, std::size_t half) {
  return g < kHalfWords ? low_nibbles(load_half(lines[g], half)) : high_nibbles(load_half(lines[g - kHalfWords], half));
}

// Keeps a sum as it was written. GCC 12 would otherwise turn a chain of integer additions into a tree, whose leaves,
// twice as many as there are registers, it then spills: a third of the speed.
static inline void keep_chain(__m256i& sum) { asm("" : "+x"(sum)); }

// sum + Σ over a word's rows of u q.
static inline __m256i add_products(__m256i sum, __m256i word, __m256i four) {
  sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(word, four));
  keep_chain(sum);
  return sum;
}

// A plane's int16 sums to int32, by the plane's weight: 1, and 16 of the high one.
static inline __m256i widen_plane(__m256i sums, int plane) {
  return _mm256_madd_epi16(sums, _mm256_set1_epi16(plane == 0 ? 1 : 16));
}

// Whether int16 holds the sums of a block's words, not of half of them alone.
template <class Format>
constexpr bool kWhole = 2 * kWords* Format::kMost * 127 <= INT16_MAX;

// sum += the product of the panel's block b, and of those that are taken apart with it in that step of the superblock,
// with all tokens, as many as `Tokens`. `Lines` lines at `ahead` are asked for meanwhile.
template <class Format, int Lines, int Tokens>
[[gnu::always_inline]] static inline void narrow_blocks(const MatmulQ& op,
                                                        const typename Format::Superblock& superblock,
                                                        const typename Format::Scales& scales, std::size_t b,
                                                        std::size_t step, const char* ahead,
                                                        __m256 (&sum)[Tokens][kHalves]) {
  constexpr int kBlocks = Format::kTogether;
  constexpr int kSpan = kWhole<Format> ? kWords : kHalfWords;  // words to an int16 sum
  const std::size_t at = op.x.at(0, b), row_step = op.x.row_step, block_step = op.x.block_step;
  const std::int8_t* q = op.x.quants + at * kBlock;
  __m256i dot[kBlocks][Tokens][kHalves] = {};
  __m256i plane_sum[kBlocks][Format::kPlanes][Tokens][kHalves] = {};
#pragma GCC unroll 8
  for (int g = 0; g < kWords; ++g) {
#pragma GCC unroll 2
    for (int line = (g * Lines + kWords - 1) / kWords; line < ((g + 1) * Lines + kWords - 1) / kWords; ++line) {
      _mm_prefetch(ahead + line * kLine, _MM_HINT_T0);
    }
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
#pragma GCC unroll 2
      for (int i = 0; i < kBlocks; ++i) {
#pragma GCC unroll 2
        for (int p = 0; p < Format::kPlanes; ++p) {
          const __m256i word = Format::word(superblock, step, i, p, g, h);
#pragma GCC unroll 2
          for (int t = 0; t < Tokens; ++t) {
            const __m256i four = broadcast_word(q + (t * row_step + i * block_step) * kBlock + 4 * g);
            __m256i& part = plane_sum[i][p][t][h];
            part = add_products(part, word, four);
            if (g % kSpan != kSpan - 1) continue;
            dot[i][t][h] = _mm256_add_epi32(dot[i][t][h], widen_plane(part, p));
            part = _mm256_setzero_si256();
          }
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < kBlocks; ++i) {
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
      const auto scale = scales.of(superblock, step * kBlocks + i, h);
#pragma GCC unroll 2
      for (int t = 0; t < Tokens; ++t) {
        const std::size_t row = at + t * row_step + i * block_step;
        sum[t][h] = scale.add(sum[t][h], dot[i][t][h], op.x.scales[row], op.x.seeds[row]);
      }
    }
  }
}

// The sums of a panel and all tokens; `next` is the panel that will be asked for after it.
template <class Format, int Tokens>
[[gnu::always_inline]] static inline void narrow_sums(const MatmulQ& op, std::size_t panel, std::size_t next,
                                                      __m256 (&sum)[Tokens][kHalves]) {
  using Superblock = typename Format::Superblock;
  const Stream<Superblock> stream(op.weights, panel, next);
  // A superblock's lines are asked for one by one, a share of them in every step, and what the shares leave, the first
  // line of an odd number, ahead of the first step. All at once fill the core's queue of misses and hold up the words
  // in hand: 3 to 4 % of the bandwidth.
  constexpr std::size_t kBlocks = Superblock::kCols / kBlock, kSteps = kBlocks / Format::kTogether;
  constexpr std::size_t kLines = sizeof(Superblock) / kLine, kStepLines = kLines / kSteps, kFirst = kLines % kSteps;
  typename Format::Scales scales{};
#pragma GCC unroll 2
  for (int t = 0; t < Tokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_ps();
  for (std::size_t b = 0; b < op.weights.cols / kBlock; b += Format::kTogether) {
    const std::size_t s = b / kBlocks, step = b % kBlocks / Format::kTogether;
    const Superblock& superblock = stream.here[s];
    const char* ahead = stream.superblock(s + kPrefetchBytes / sizeof(Superblock));
    if (step == 0) {
      if (kFirst != 0) _mm_prefetch(ahead, _MM_HINT_T0);
      scales.open(superblock);
    }
    ahead += (kFirst + step * kStepLines) * kLine;
    narrow_blocks<Format, kStepLines>(op, superblock, scales, b, step, ahead, sum);
  }
}

// The products of one token or two, `Tokens`: sums_of(panel, next, sum) gives a panel's sums, `next` being the panel
// that will be asked for after it.
template <int Tokens, class PanelSums>
static void narrow(const MatmulQ& op, std::size_t begin, std::size_t end, const PanelSums& sums_of) {
  const auto single = [&](std::size_t panel) {
    __m256 sum[Tokens][kHalves];
    sums_of(panel, panel + 1, sum);
#pragma GCC unroll 2
    for (int t = 0; t < Tokens; ++t) finish_panel(op.weights, op.out, panel, t, sum[t]);
  };
  const auto pair = [&](std::size_t first, std::size_t second) {
    if (op.out.finish != Finish::kSwiGlu) {
      single(first);
      single(second);
      return;
    }
    __m256 gate[Tokens][kHalves], up[Tokens][kHalves];
    sums_of(first, second, gate);
    sums_of(second, first + 1, up);
#pragma GCC unroll 2
    for (int t = 0; t < Tokens; ++t) finish_gated(op.out, first, t, gate[t], up[t]);
  };
  for_panels(op.weights, op.out.finish, begin, end, pair, single);
}

// What one panel and a block of tokens have come to.
struct Sums {
  alignas(32) float of[kTokenBlock][kPanelRows];
  __m256i half_block[2][kTokenBlock][kHalves];  // by plane: int16 sums over half a block, or int32 ones over a plane
};

// Half of a plane's words of a block, with every token: done(t, sums) gets the int16 sums, begun from those of
// `start`(t).
template <class Format, class Start, class Done>
[[gnu::always_inline]] static inline void half_plane(const MatmulQ& op, const typename Format::Superblock& superblock,
                                                     std::size_t b, int plane, int part, const std::int8_t* q,
                                                     std::size_t count, const Start& start, const Done& done) {
  __m256i word[kHalfWords][kHalves];
#pragma GCC unroll 4
  for (int g = 0; g < kHalfWords; ++g) {
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
      word[g][h] =
          Format::word(superblock, b / Format::kTogether, b % Format::kTogether, plane, part * kHalfWords + g, h);
    }
  }
  q += part * kHalfWords * 4;
  for (std::size_t t = 0; t < count; ++t, q += op.x.row_step * kBlock) {
    __m256i sum[kHalves];
    start(t, sum);
#pragma GCC unroll 4
    for (int g = 0; g < kHalfWords; ++g) {
      const __m256i four = broadcast_word(q + 4 * g);
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) sum[h] = add_products(sum[h], word[g][h], four);
    }
    done(t, sum);
  }
}

// As narrow_sums, of a block of tokens.
template <class Format>
static void wide_sums(const MatmulQ& op, std::size_t panel, std::size_t next, std::size_t token, std::size_t count,
                      Sums& sums) {
  using Superblock = typename Format::Superblock;
  constexpr std::size_t kBlocks = Superblock::kCols / kBlock;
  constexpr int kLast = Format::kPlanes - 1;
  static_assert(kWhole<Format> || kLast == 0, "where half a block waits, what waits is no plane");
  const Stream<Superblock> stream(op.weights, panel, next);
  const std::size_t ahead = prefetch_superblocks<Superblock>(count);
  typename Format::Scales scales{};
  std::memset(sums.of, 0, count * sizeof sums.of[0]);

  const auto zero = [](std::size_t, __m256i(&sum)[kHalves]) { sum[0] = sum[1] = _mm256_setzero_si256(); };
  for (std::size_t b = 0; b < op.weights.cols / kBlock; ++b) {
    const std::size_t side = b % kBlocks, at = op.x.at(token, b), step = op.x.row_step;
    const Superblock& superblock = stream.here[b / kBlocks];
    const std::int8_t* q = op.x.quants + at * kBlock;
    const float* x_scale = op.x.scales + at;
    const std::int32_t* x_seed = op.x.seeds + at;
    stream.prefetch(b / kBlocks + ahead, side);
    if (side == 0) scales.open(superblock);

    for (int plane = 0; plane <= kLast; ++plane) {
      __m256i(*half)[kHalves] = sums.half_block[plane];
      const auto keep = [&](std::size_t t, const __m256i(&sum)[kHalves]) {
        half[t][0] = sum[0];
        half[t][1] = sum[1];
      };
      const auto resume = [&](std::size_t t, __m256i(&sum)[kHalves]) {
        sum[0] = kWhole<Format> ? half[t][0] : _mm256_setzero_si256();
        sum[1] = kWhole<Format> ? half[t][1] : _mm256_setzero_si256();
      };
      half_plane<Format>(op, superblock, side, plane, 0, q, count, zero, keep);
      if (plane < kLast) {
        half_plane<Format>(op, superblock, side, plane, 1, q, count, resume,
                           [&](std::size_t t, const __m256i(&sum)[kHalves]) {
                             half[t][0] = widen_plane(sum[0], plane);
                             half[t][1] = widen_plane(sum[1], plane);
                           });
        continue;
      }
      const decltype(scales.of(superblock, 0, 0)) scale[kHalves] = {scales.of(superblock, side, 0),
                                                                    scales.of(superblock, side, 1)};
      half_plane<Format>(op, superblock, side, plane, 1, q, count, resume,
                         [&](std::size_t t, const __m256i(&sum)[kHalves]) {
                           const float token_scale = x_scale[t * step];
                           const std::int32_t token_seed = x_seed[t * step];
#pragma GCC unroll 2
                           for (std::size_t h = 0; h < kHalves; ++h) {
                             __m256i dot = widen_plane(sum[h], kLast);
                             if (kLast == 1) dot = _mm256_add_epi32(dot, sums.half_block[0][t][h]);
                             if (!kWhole<Format>) dot = _mm256_add_epi32(dot, widen_plane(half[t][h], 0));
                             float* of = sums.of[t] + h * kHalfRows;
                             _mm256_store_ps(of, scale[h].add(_mm256_load_ps(of), dot, token_scale, token_seed));
                           }
                         });
    }
  }
}

// The products of more tokens: sums_of(panel, next, token, count, sums) gives a panel's sums with a block of tokens.
// Tokens outermost: their activations stay in L2 while the panels pass, whose bytes are few beside their work.
template <class PanelSums>
static void wide(const MatmulQ& op, std::size_t begin, std::size_t end, const PanelSums& sums_of) {
  for_token_blocks(op.tokens, kTokenBlock, [&](std::size_t token, std::size_t count) {
    const auto load = [](const Sums& sums, std::size_t t, __m256(&sum)[kHalves]) {
      sum[0] = _mm256_load_ps(sums.of[t]);
      sum[1] = _mm256_load_ps(sums.of[t] + kHalfRows);
    };
    const auto single = [&](std::size_t panel) {
      Sums sums;
      sums_of(panel, panel + 1, token, count, sums);
      for (std::size_t t = 0; t < count; ++t) {
        __m256 sum[kHalves];
        load(sums, t, sum);
        finish_panel(op.weights, op.out, panel, token + t, sum);
      }
    };
    const auto pair = [&](std::size_t first, std::size_t second) {
      if (op.out.finish != Finish::kSwiGlu) {
        single(first);
        single(second);
        return;
      }
      Sums gates, ups;
      sums_of(first, second, token, count, gates);
      sums_of(second, first + 1, token, count, ups);
      for (std::size_t t = 0; t < count; ++t) {
        __m256 gate[kHalves], up[kHalves];
        load(gates, t, gate);
        load(ups, t, up);
        finish_gated(op.out, first, token + t, gate, up);
      }
    };
    for_panels(op.weights, op.out.finish, begin, end, pair, single);
  });
}

// A Product gives the sums of both: narrow_sums<Tokens>(op, ...) and wide_sums(op, ...).
template <class Product>
static void run_product(const MatmulQ& op, std::size_t begin, std::size_t end) {
  const auto few = [&]<int Tokens>() {
    narrow<Tokens>(op, begin, end, [&](std::size_t panel, std::size_t next, __m256(&sum)[Tokens][kHalves]) {
      Product::template narrow_sums<Tokens>(op, panel, next, sum);
    });
  };
  switch (op.tokens) {
    case 0:
      return;
    case 1:
      return few.template operator()<1>();
    case kNarrow:
      return few.template operator()<kNarrow>();
    default:
      return wide(op, begin, end,
                  [&](std::size_t panel, std::size_t next, std::size_t token, std::size_t count, Sums& sums) {
                    Product::wide_sums(op, panel, next, token, count, sums);
                  });
  }
}

template <class Format>
struct Product32 {
  template <int Tokens>
  [[gnu::always_inline]] static void narrow_sums(const MatmulQ& op, std::size_t panel, std::size_t next,
                                                 __m256 (&sum)[Tokens][kHalves]) {
    avx2::narrow_sums<Format, Tokens>(op, panel, next, sum);
  }
  static void wide_sums(const MatmulQ& op, std::size_t panel, std::size_t next, std::size_t token, std::size_t count,
                        Sums& sums) {
    avx2::wide_sums<Format>(op, panel, next, token, count, sums);
  }
};

template <class Format>
static void matmul_q(const MatmulQ& op, std::size_t begin, std::size_t end) {
  run_product<Product32<Format>>(op, begin, end);
}

}  // namespace cria::cpu::avx2
