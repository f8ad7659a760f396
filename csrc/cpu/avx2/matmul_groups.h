// What the products with weights of a scale for each 16 columns (q2_K, q3_K, q6_K) have in common: all but how a block
// is taken apart.
//
// As in matmul_q.h a row's four products of a word go to two lanes of int16 sums. The vpmaddwd that widens these
// multiplies by the group's scale, so that the scales cost nothing:
//
//     int16 sums of a group   | 16: two a row  |  x  s, s of each row   ->   8 x int32: s Σ u q, one a row
//     sums of q               | S0, S1         |  x  z s0, z s1         ->   8 x int32: what the zero point adds
//
// A Format has
//     Superblock                       the one of panel.h
//     kZero, kMinimum                  the weights' zero point; whether they have minima
//     kSafeWords                       words whose sums an int16 holds: 4 products a word and row, two a lane
//     word<Q>(superblock, n, g, h)     u8: word g of block 4n + Q, its rows of half h
//     scales(superblock, word, h)      in a row's word the scales of groups 4 word ... 4 word + 3, signed bytes
//     lead(superblock, h)              the scale of the scales
// and, where kMinimum, minima(superblock, word, h) as scales, lead_minimum(superblock, h).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "matmul_q.h"

namespace cria::cpu::avx2 {

constexpr int kGroups = 2;                     // of a block
constexpr int kGroupWords = kWords / kGroups;  // 4
constexpr int kQuarter = 4;                    // blocks that take turns in the bits of the same bytes

// Bytes `first` and `last` of each row's word, with their signs, as the row's two int16.
template <int first, int last>
static inline __m256i byte_pair(__m256i words) {
  constexpr int kNone = -128;
  const __m128i places = _mm_setr_epi8(kNone, first, kNone, last, kNone, 4 + first, kNone, 4 + last, kNone, 8 + first,
                                       kNone, 8 + last, kNone, 12 + first, kNone, 12 + last);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(places)), 8);
}

// The scales of a block, of one half of the rows.
template <class Format>
struct GroupScales {
  __m256i of[kGroups];  // s, s
  __m256i zero;         // z s0, z s1
  __m256i minimum;      // m0, m1
  __m256 lead, lead_minimum;

  template <int Q>
  [[gnu::always_inline]] void load(const typename Format::Superblock& superblock, std::size_t n, std::size_t h) {
    constexpr int kAt = Q % 2 * 2;
    const __m256i scales = Format::scales(superblock, 2 * n + Q / 2, h);
    of[0] = byte_pair<kAt, kAt>(scales);
    of[1] = byte_pair<kAt + 1, kAt + 1>(scales);
    if constexpr (Format::kZero != 0) {
      zero = _mm256_mullo_epi16(byte_pair<kAt, kAt + 1>(scales), _mm256_set1_epi16(Format::kZero));
    }
    lead = Format::lead(superblock, h);
    if constexpr (Format::kMinimum) {
      minimum = byte_pair<kAt, kAt + 1>(Format::minima(superblock, 2 * n + Q / 2, h));
      lead_minimum = Format::lead_minimum(superblock, h);
    }
  }

  // sum + the block's product with one token's, whose scaled integer product is `dot`.
  [[gnu::always_inline]] __m256 add(__m256 sum, __m256i dot, float x_scale, QuantSums x_sums) const {
    const __m256i sums = _mm256_set1_epi32(x_sums);
    const __m256 scale = _mm256_set1_ps(x_scale);
    if constexpr (Format::kZero != 0) dot = _mm256_sub_epi32(dot, _mm256_madd_epi16(zero, sums));
    sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(lead, scale), sum);
    if constexpr (Format::kMinimum) {
      const __m256 least = _mm256_cvtepi32_ps(_mm256_madd_epi16(minimum, sums));
      sum = _mm256_fnmadd_ps(least, _mm256_mul_ps(lead_minimum, scale), sum);
    }
    return sum;
  }
};

// dot + a group's scaled product, its words being word[0 ... 3] and the token's quants q.
template <class Format>
[[gnu::always_inline]] static inline __m256i add_group(__m256i dot, const __m256i (&word)[kGroupWords],
                                                       const std::int8_t* q, __m256i scale) {
#pragma GCC unroll 4
  for (int first = 0; first < kGroupWords; first += Format::kSafeWords) {
    __m256i sum = _mm256_maddubs_epi16(word[first], broadcast_word(q + 4 * first));
#pragma GCC unroll 4
    for (int g = first + 1; g < first + Format::kSafeWords; ++g)
      sum = add_products(sum, word[g], broadcast_word(q + 4 * g));
    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(sum, scale));
  }
  return dot;
}

// function.operator()<0>() ... <kQuarter - 1>(): which bits a block has is then known to the compiler.
template <class Function>
[[gnu::always_inline]] static inline void each_quarter(const Function& function) {
  [&]<int... Q>(std::integer_sequence<int, Q...>) { (function.template operator()<Q>(), ...); }
  (std::make_integer_sequence<int, kQuarter>());
}

// As narrow_sums of matmul_q.h.
template <class Format, int Tokens>
[[gnu::always_inline]] static inline void narrow_group_sums(const MatmulQ& op, std::size_t panel, std::size_t next,
                                                            __m256 (&sum)[Tokens][kHalves]) {
  using Superblock = typename Format::Superblock;
  constexpr std::size_t kBlocks = Superblock::kCols / kBlock;
  const Stream<Superblock> stream(op.weights, panel, next);
#pragma GCC unroll 2
  for (int t = 0; t < Tokens; ++t) sum[t][0] = sum[t][1] = _mm256_setzero_ps();
  for (std::size_t half = 0; half < op.weights.cols / (kQuarter * kBlock); ++half) {
    const std::size_t s = half / 2, n = half % 2;
    const Superblock& superblock = stream.here[s];
    // A block's share of the lines of a superblock that lies as far ahead as matmul_q.h has it.
    const char* ahead = stream.superblock(s + (kPrefetchBytes + sizeof(Superblock) - 1) / sizeof(Superblock)) +
                        n * sizeof(Superblock) / 2;
    each_quarter([&]<int Q>() {
      const std::size_t at = op.x.at(0, s * kBlocks + n * kQuarter + Q), step = op.x.row_step;
      const std::int8_t* q = op.x.quants + at * kBlock;
      constexpr std::size_t kShare = sizeof(Superblock) / 2 / kQuarter;
#pragma GCC unroll 8
      for (std::size_t byte = 0; byte < kShare; byte += kLine) {
        _mm_prefetch(ahead + Q * kShare + byte, _MM_HINT_T0);
      }
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        GroupScales<Format> scales;
        scales.template load<Q>(superblock, n, h);
        __m256i dot[Tokens] = {};
#pragma GCC unroll 2
        for (int group = 0; group < kGroups; ++group) {
          __m256i word[kGroupWords];
#pragma GCC unroll 4
          for (int g = 0; g < kGroupWords; ++g) {
            word[g] = Format::template word<Q>(superblock, n, group * kGroupWords + g, h);
          }
#pragma GCC unroll 2
          for (int t = 0; t < Tokens; ++t) {
            const std::int8_t* of = q + t * step * kBlock + group * kGroupWords * 4;
            dot[t] = add_group<Format>(dot[t], word, of, scales.of[group]);
          }
        }
#pragma GCC unroll 2
        for (int t = 0; t < Tokens; ++t) {
          const std::size_t row = at + t * step;
          sum[t][h] = scales.add(sum[t][h], dot[t], op.x.scales[row], op.x.sums[row]);
        }
      }
    });
  }
}

// One group of a block with every token: half the words fit the registers, as in matmul_q.h. done(t, h, dot) gets the
// scaled products, begun from those of `start`(t, h).
template <class Format, int Q, class Start, class Done>
[[gnu::always_inline]] static inline void group_pass(const MatmulQ& op, const typename Format::Superblock& superblock,
                                                     std::size_t n, int group,
                                                     const GroupScales<Format> (&scales)[kHalves], const std::int8_t* q,
                                                     std::size_t count, const Start& start, const Done& done) {
  __m256i word[kHalves][kGroupWords];
#pragma GCC unroll 2
  for (std::size_t h = 0; h < kHalves; ++h) {
#pragma GCC unroll 4
    for (int g = 0; g < kGroupWords; ++g) {
      word[h][g] = Format::template word<Q>(superblock, n, group * kGroupWords + g, h);
    }
  }
  q += group * kGroupWords * 4;
  for (std::size_t t = 0; t < count; ++t, q += op.x.row_step * kBlock) {
#pragma GCC unroll 2
    for (std::size_t h = 0; h < kHalves; ++h) {
      done(t, h, add_group<Format>(start(t, h), word[h], q, scales[h].of[group]));
    }
  }
}

template <class Format>
static void wide_group_sums(const MatmulQ& op, std::size_t panel, std::size_t next, std::size_t token,
                            std::size_t count, Sums& sums) {
  using Superblock = typename Format::Superblock;
  constexpr std::size_t kBlocks = Superblock::kCols / kBlock;
  const Stream<Superblock> stream(op.weights, panel, next);
  const std::size_t ahead = prefetch_superblocks<Superblock>(count);
  std::memset(sums.of, 0, count * sizeof sums.of[0]);
  __m256i(*half_block)[kHalves] = sums.half_block[0];
  for (std::size_t half = 0; half < op.weights.cols / (kQuarter * kBlock); ++half) {
    const std::size_t s = half / 2, n = half % 2;
    const Superblock& superblock = stream.here[s];
    each_quarter([&]<int Q>() {
      stream.prefetch(s + ahead, n * kQuarter + Q);
      const std::size_t at = op.x.at(token, s * kBlocks + n * kQuarter + Q), step = op.x.row_step;
      const std::int8_t* q = op.x.quants + at * kBlock;
      GroupScales<Format> scales[kHalves];
      for (std::size_t h = 0; h < kHalves; ++h) scales[h].template load<Q>(superblock, n, h);
      group_pass<Format, Q>(
          op, superblock, n, 0, scales, q, count, [](std::size_t, std::size_t) { return _mm256_setzero_si256(); },
          [&](std::size_t t, std::size_t h, __m256i dot) { half_block[t][h] = dot; });
      group_pass<Format, Q>(
          op, superblock, n, 1, scales, q, count, [&](std::size_t t, std::size_t h) { return half_block[t][h]; },
          [&](std::size_t t, std::size_t h, __m256i dot) {
            float* of = sums.of[t] + h * kHalfRows;
            const std::size_t row = at + t * step;
            _mm256_store_ps(of, scales[h].add(_mm256_load_ps(of), dot, op.x.scales[row], op.x.sums[row]));
          });
    });
  }
}

template <class Format>
struct ProductOfGroups {
  template <int Tokens>
  [[gnu::always_inline]] static void narrow_sums(const MatmulQ& op, std::size_t panel, std::size_t next,
                                                 __m256 (&sum)[Tokens][kHalves]) {
    narrow_group_sums<Format, Tokens>(op, panel, next, sum);
  }
  static void wide_sums(const MatmulQ& op, std::size_t panel, std::size_t next, std::size_t token, std::size_t count,
                        Sums& sums) {
    wide_group_sums<Format>(op, panel, next, token, count, sums);
  }
};

template <class Format>
static void matmul_groups(const MatmulQ& op, std::size_t begin, std::size_t end) {
  run_product<ProductOfGroups<Format>>(op, begin, end);
}

}  // namespace cria::cpu::avx2
