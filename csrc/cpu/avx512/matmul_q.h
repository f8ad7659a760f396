// What the products with quantised weights have in common: all but how a block is taken apart.
//
// A block of a panel, 16 rows by 32 columns, is eight operands of vpdpbusd. They stay in registers while the tokens go
// by: each costs eight broadcasts of four activations, and eight vpdpbusd a panel.
//
//                     row 0 ... 15
//       word g      | w(4g .. 4g+3) x 16 |     u8, the unsigned operand, g < 8
//       token t     | q(4g .. 4g+3), broadcast    s8, the signed one
//       dot         | 16 x int32, from the seed    a chain over the words
//       sum[t]      | 16 x f32                    a chain over the blocks
//
// Two panels share the broadcasts. `sum` is in L1: for 128 tokens 16 KiB, beside which a block's activations pass from
// L2, where those of 4096 columns (640 KiB) stay. Per token, block and panel two of the ten operations that vpdpbusd's
// two pipes take are the product of the scales and the fused multiply-add, so four fifths of its peak is the most there
// is; with a minimum, whose multiply-add and half a product come to it, 70 %.
//
// A Format has
//     Superblock                     the one of panel.h
// and what its Operands ask of it. Operands<Format, Count>, a block of `Count` panels taken apart, have
//     token_sums(x)                  of the activations, what the weights' zero points and minima meet: seeds or sums
//     open(superblocks)              takes apart what the blocks of superblocks share; called before their first block
//     load(superblocks, b)           takes their block b apart
//     add(q, x_scale, x_sum, sum)    sum[p] += the block's product with one token's
// Those here are for weights of a scale for each 32 columns, those of matmul_groups.h for each 16.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "../stream.h"
#include "finish.h"
#include "scales.h"

namespace cria::cpu::avx512 {

constexpr int kWords = kBlock / 4;

// Enough that taking a block apart costs little beside the tokens' work, few enough that their sums stay in L1. On Zen
// 5, one thread, q4_0: 580 GOP/s at 32, 640 to 650 at 64 and at 128, 535 at 256, whose sums alone are 32 KiB.
constexpr std::size_t kTokenBlock = 128;

// Four activations, for all rows.
static inline __m512i broadcast_word(const std::int8_t* q) {
  std::int32_t word;
  std::memcpy(&word, q, sizeof word);
  return _mm512_set1_epi32(word);
}

// The words of a block whose nibbles are of columns 16 apart.
[[gnu::always_inline]] static inline void nibble_words(const std::uint8_t (*lines)[kLine], __m512i (&word)[kWords]) {
#pragma GCC unroll 4
  for (int g = 0; g < kWords / 2; ++g) {
    const __m512i line = load_line(lines[g]);
    word[g] = low_nibbles(line);
    word[g + kWords / 2] = high_nibbles(line);
  }
}

// dot[p] += the products of words [first, last) with a token's quants.
template <int first, int last, int Count>
[[gnu::always_inline]] static inline void multiply_words(const __m512i (&word)[Count][kWords], const std::int8_t* q,
                                                         __m512i (&dot)[Count]) {
#pragma GCC unroll 8
  for (int g = first; g < last; ++g) {
    const __m512i four = broadcast_word(q + 4 * g);
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) dot[p] = _mm512_dpbusd_epi32(dot[p], word[p][g], four);
  }
}

// Format has
//     Scales                       of those of scales.h
//     words(superblock, b, word)   the eight operands of block b
template <class Format, int Count>
struct BlockOperands {
  using Superblock = typename Format::Superblock;
  using Scales = typename Format::Scales;
  using Scale = decltype(Scales().of(std::declval<const Superblock&>(), 0));
  Scales scales[Count];
  __m512i word[Count][kWords];
  Scale scale[Count];

  static const std::int32_t* token_sums(const QuantRows& x) { return x.seeds; }

  [[gnu::always_inline]] void open(const Superblock* const (&superblock)[Count]) {
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) scales[p].open(*superblock[p]);
  }

  [[gnu::always_inline]] void load(const Superblock* const (&superblock)[Count], std::size_t b) {
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      Format::words(*superblock[p], b, word[p]);
      scale[p] = scales[p].of(*superblock[p], b);
    }
  }

  [[gnu::always_inline]] void add(const std::int8_t* q, float x_scale, std::int32_t x_seed,
                                  __m512 (&sum)[Count]) const {
    __m512i dot[Count];
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) dot[p] = Scale::start(x_seed);
    multiply_words<0, kWords>(word, q, dot);
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) sum[p] = scale[p].add(sum[p], dot[p], x_scale, x_seed);
  }
};

// The sums of some panels and a block of tokens.
template <int Count>
struct Sums {
  alignas(kLine) float of[kTokenBlock][Count][kPanelRows];
};

template <class Operands, class Superblock, int Count>
static void wide_sums(const MatmulQ& op, const Stream<Superblock> (&stream)[Count], std::size_t token,
                      std::size_t count, Sums<Count>& sums) {
  constexpr std::size_t kBlocks = Superblock::kCols / kBlock;
  const std::size_t ahead = prefetch_superblocks<Superblock>(count);
  const Superblock* superblock[Count];
  Operands operands{};
  for (int p = 0; p < Count; ++p) superblock[p] = stream[p].here;
  std::memset(sums.of, 0, count * sizeof sums.of[0]);

  const std::size_t blocks = op.weights.cols / kBlock;
  for (std::size_t b = 0; b < blocks; ++b) {
    const std::size_t side = b % kBlocks;
    for (int p = 0; p < Count; ++p) stream[p].prefetch(b / kBlocks + ahead, side);
    if (side == 0) operands.open(superblock);
    operands.load(superblock, side);

    const std::size_t at = op.x.at(token, b);
    const std::int8_t* q = op.x.quants + at * kBlock;
    const float* scale = op.x.scales + at;
    const std::int32_t* x_sum = Operands::token_sums(op.x) + at;
    for (std::size_t t = 0; t < count; ++t) {
      float(&of)[Count][kPanelRows] = sums.of[t];
      __m512 sum[Count];
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) sum[p] = _mm512_load_ps(of[p]);
      operands.add(q, *scale, *x_sum, sum);
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) _mm512_store_ps(of[p], sum[p]);
      q += op.x.row_step * kBlock;
      scale += op.x.row_step;
      x_sum += op.x.row_step;
    }
    for (int p = 0; p < Count; ++p) superblock[p] += side == kBlocks - 1;
  }
}

// Tokens outermost: their activations stay in L2 while the panels pass, whose bytes are few beside their work.
template <template <class, int> class Operands, class Format>
static void wide(const MatmulQ& op, std::size_t begin, std::size_t end) {
  using Stream = Stream<typename Format::Superblock>;
  const std::size_t step = op.out.finish == Finish::kSwiGlu ? 1 : 2;  // from a pair's panels to those of the next
  for_token_blocks(op.tokens, kTokenBlock, [&](std::size_t token, std::size_t count) {
    const auto single = [&](std::size_t panel) {
      Sums<1> sums;
      const Stream stream[1] = {Stream(op.weights, panel, panel + 1)};
      wide_sums<Operands<Format, 1>>(op, stream, token, count, sums);
      for (std::size_t t = 0; t < count; ++t) {
        finish_panel(op.weights, op.out, panel, token + t, _mm512_load_ps(sums.of[t][0]));
      }
    };
    const auto pair = [&](std::size_t first, std::size_t second) {
      Sums<2> sums;
      const Stream streams[2] = {Stream(op.weights, first, first + step), Stream(op.weights, second, second + step)};
      wide_sums<Operands<Format, 2>>(op, streams, token, count, sums);
      for (std::size_t t = 0; t < count; ++t) {
        const __m512 a = _mm512_load_ps(sums.of[t][0]), b = _mm512_load_ps(sums.of[t][1]);
        if (op.out.finish == Finish::kSwiGlu) {
          finish_gated(op.out, first, token + t, a, b);
        } else {
          finish_panel(op.weights, op.out, first, token + t, a);
          finish_panel(op.weights, op.out, second, token + t, b);
        }
      }
    };
    for_panels(op.weights, op.out.finish, begin, end, pair, single);
  });
}

// For types whose blocks are quickly taken apart. One token or two are AVX2's, Format::kByHalves: they wait for memory,
// which has more under way when lines are loaded by halves. Measured on Zen 5 at one token, two threads, as a share of
// plain reads beside it: q4_0 97 % against 92, q8_0 93 against 86.
constexpr std::size_t kMostByHalves = 2;

template <template <class, int> class Operands, class Format>
static void matmul(const MatmulQ& op, std::size_t begin, std::size_t end) {
  (op.tokens <= kMostByHalves ? Format::kByHalves : wide<Operands, Format>)(op, begin, end);
}

}  // namespace cria::cpu::avx512
