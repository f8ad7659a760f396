// Attention for up to 32 rows (queries x heads of a group), which go over the keys together, 64 at a time:
//
//              K: 4 blocks of 16 keys                          V: 64 keys
//             ┌─────┬─────┬─────┬─────┐                  ┌─────┬─────┬── ... head_dim
//    q        │     │     │     │     │        p         │     │     │
//    R rows   │  C  │     │     │     │        R rows    │  C  │     │       o
//             └─────┴─────┴─────┴─────┘                  └─────┴─────┴── ...
//              p = Σ q[d] K[d][16 keys]                   o = c o + Σ p[j] V[j][d ...]
//              fetches V of these keys                    fetches K of the next 64
//
// Both products are one loop, Sums::add: a broadcast times a row of K or V. The register tile, R rows by C registers of
// columns, is each instruction set's own; how it is walked over is the same for all. Rows of a tile end at different
// keys: the scores of keys after a row's own, in the blocks of 16 that it shares, are computed and not used; its sum
// over values stops at its own, without leaving the registers.
//
// Bound by the multiply-adds from 8 rows on, by memory at one. On Zen 5 the register tiles alone run at 98 % of the
// peak; what is missing from a long prompt's 83 % is softmax (in AVX-512 some 40 cycles for a row and 64 keys, beside
// 512 of multiply-adds at 128 dimensions), the edges, and the first touch of each tile.
//
// In an anonymous namespace: each instruction set's files compile a copy of their own (see reduce.h).
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "attention.h"
#include "attention_lanes.h"

namespace cria::cpu {
namespace {

// At 128 dimensions a tile of K or V is 16 KiB of f16, and the rows' q, or their o, 16 KiB, with 8 KiB of p: each
// product's operands stay in L1 while its register tiles go over them.
constexpr std::size_t kRowTile = 32;

// Floats from row to row of q and o: a line more than the longest head, so that the rows, read side by side, spread
// over all sets of L1. (In the caller's q, multiples of 4 KiB apart, they would share a few.) A constant, so that one
// register points at all rows.
constexpr std::size_t kRowStride = kMaxHeadDim + 16;

// Whether elements of T are q8_0's, each to be multiplied by its scale.
template <class T>
constexpr bool kQuants = std::is_same_v<T, std::int8_t>;

// A register tile of sums: R rows by C registers.
//
// The loops are unrolled by order: left to itself, GCC 12 writes the array back to memory at every step.
template <class Lanes, int R, int C>
class Sums {
 public:
  [[gnu::always_inline]] void clear() {
    each([](auto& sum, int, int) { sum = Lanes::zero(); });
  }
  // Row r from rows + r * stride on, times scale[r].
  [[gnu::always_inline]] void load(const float* rows, std::size_t stride, const float* scale) {
    each([&](auto& sum, int r, int c) {
      sum = Lanes::mul(Lanes::load(rows + r * stride + c * Lanes::kWidth), Lanes::all(scale[r]));
    });
  }
  [[gnu::always_inline]] void store(float* rows, std::size_t stride) {
    each([&](auto& sum, int r, int c) { Lanes::store(rows + r * stride + c * Lanes::kWidth, sum); });
  }

  // sum[r] += a[r * kStride + i] * x[p][i * step ...] for ascending i from `begin` on and below `end`, the C registers
  // of columns being in P places. Quants are multiplied by scale(register, i) first. Meanwhile fetches into L1 what
  // stands as many bytes into `ahead`.
  template <std::size_t kStride, int P, class T, class Scale>
  [[gnu::always_inline]] void add(const float* a, const T* const (&x)[P], const std::uint8_t* const (&ahead)[P],
                                  std::size_t step, std::size_t begin, std::size_t end, const Scale& scale) {
    constexpr int kPlace = C / P;                                                   // registers in a place
    constexpr int kLine = std::min<int>(kPlace, 64 / (Lanes::kWidth * sizeof(T)));  // and in a cache line
    for (std::size_t i = begin; i < end; ++i) {
      typename Lanes::Register column[C];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        const std::size_t at = i * step + c % kPlace * Lanes::kWidth;
        if (c % kLine == 0) _mm_prefetch(ahead[c / kPlace] + at * sizeof(T), _MM_HINT_T0);
        column[c] = load(x[c / kPlace] + at, scale, c, i);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const auto s = Lanes::all(a[r * kStride + i]);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sum_[r][c] = Lanes::fma(s, column[c], sum_[r][c]);
      }
    }
  }

  // One more step, sum[r] += a[r * kStride] * x, for the rows from `first` on, at least 1.
  template <std::size_t kStride, class T, class Scale>
  [[gnu::always_inline]] void add_from(int first, const float* a, const T* x, const Scale& scale) {
    typename Lanes::Register column[C];
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) column[c] = load(x + c * Lanes::kWidth, scale, c, 0);
#pragma GCC unroll 8
    for (int r = 1; r < R; ++r) {
      if (r < first) continue;
      const auto s = Lanes::all(a[r * kStride]);
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) sum_[r][c] = Lanes::fma(s, column[c], sum_[r][c]);
    }
  }

 private:
  template <class T, class Scale>
  [[gnu::always_inline]] static auto load(const T* x, const Scale& scale, int c, std::size_t i) {
    if constexpr (kQuants<T>) return Lanes::mul(Lanes::load(x), scale(c, i));
    return Lanes::load(x);
  }

  template <class F>
  [[gnu::always_inline]] void each(F f) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) f(sum_[r][c], r, c);
    }
  }

  typename Lanes::Register sum_[R][C];
};

// The running softmax of the rows of a tile. From these values a first tile comes out as attention.h has it: its c is
// finite, so 0 c = 0 and fma(0, c, sum) = sum.
struct Softmax {
  alignas(64) float m[kRowTile], l[kRowTile];
  alignas(64) float o[kRowTile * kRowStride];

  void start(std::size_t rows, std::size_t dim) {
    std::fill_n(m, kRowTile, -std::numeric_limits<float>::infinity());
    std::fill_n(l, kRowTile, 0.0f);
    for (std::size_t r = 0; r < rows; ++r) std::fill_n(o + r * kRowStride, dim, 0.0f);
  }
};

// p[j] *= scale for j below n; the largest of them and m.
template <class Lanes>
[[gnu::always_inline]] inline float scale_scores(float* p, std::size_t n, float scale, float m) {
  auto top = Lanes::all(m);
#pragma GCC unroll 8
  for (std::size_t j = 0; j < n; j += Lanes::kWidth) {
    const auto score = Lanes::mul(Lanes::load(p + j), Lanes::all(scale));
    Lanes::store(p + j, score);
    top = Lanes::larger(j + Lanes::kWidth <= n ? score : Lanes::first(n - j, score, top), top);
  }
  return Lanes::largest(top);
}

// p[j] = exp(p[j] - m) for j below n; their sum. What stands after them in the tile's row is overwritten.
template <class Lanes>
[[gnu::always_inline]] inline float exp_scores(float* p, std::size_t n, float m) {
  constexpr std::size_t kRegisters = kLanes / Lanes::kWidth;
  constexpr std::size_t kAtOnce = 4;  // registers: a row of a tile in AVX-512, and what AVX2 has room for
  typename Lanes::Register sum[kRegisters];
  for (auto& x : sum) x = Lanes::zero();
  for (std::size_t j = 0; j < n; j += kAtOnce * Lanes::kWidth) {
    typename Lanes::Register e[kAtOnce];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kAtOnce; ++i) e[i] = Lanes::sub(Lanes::load(p + j + i * Lanes::kWidth), Lanes::all(m));
    exp_f32(e);
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kAtOnce; ++i) {
      const std::size_t at = j + i * Lanes::kWidth;
      Lanes::store(p + at, e[i]);
      auto& x = sum[i % kRegisters];
      if (at < n) x = Lanes::add(x, at + Lanes::kWidth <= n ? e[i] : Lanes::first(n - at, e[i], Lanes::zero()));
    }
  }
  return Lanes::sum(sum);
}

inline void merge_row(float& m, float& l, float* o, float m2, float l2, const float* o2, std::size_t dim) {
  const float top = m2 > m ? m2 : m;
  const float a = exp_f32(m - top), b = exp_f32(m2 - top);
  m = top;
  l = std::fma(l, a, l2 * b);
  for (std::size_t d = 0; d < dim; d += 8) {
    const auto added = Lanes8::mul(Lanes8::load(o2 + d), Lanes8::all(b));
    Lanes8::store(o + d, Lanes8::fma(Lanes8::load(o + d), Lanes8::all(a), added));
  }
}

inline void write_row(float l, const float* o, std::size_t dim, float* out) {
  const auto scale = Lanes8::all(1.0f / l);
  for (std::size_t d = 0; d < dim; d += 8) Lanes8::store(out + d, Lanes8::mul(Lanes8::load(o + d), scale));
}

// Where the blocks of a tile of keys stand, for one kv head, and those of K a tile on: each product fetches what the
// next one reads. Block tables need not be in order, and in a caller's own arrays a head's blocks lie apart (kv.h):
// there the processor's own prefetching starts afresh at each, and one query takes 1.2 to 2.5 times as long. (A tile
// further ahead, K and V and what is fetched of both are 64 KiB, more than L1.)
struct KeyTile {
  static constexpr std::size_t kBlocks = kKeyTile / kKvBlock;
  using Blocks = const std::uint8_t* [kBlocks];
  Blocks k, v, next_k;

  // From key `first` on, of `keys` of the task's sequence. Blocks after the last are the last.
  KeyTile(const Attention& op, const AttentionTask& task, std::size_t first, std::size_t keys) {
    const std::int32_t* blocks = op.sequences[task.sequence].blocks;
    const auto block = [&](std::size_t key) -> std::size_t { return blocks[std::min(key, keys - 1) / kKvBlock]; };
    for (std::size_t b = 0; b < kBlocks; ++b) {
      const std::size_t key = first + b * kKvBlock;
      k[b] = op.cache.k_head(block(key), task.kv_head);
      v[b] = op.cache.v_head(block(key), task.kv_head);
      next_k[b] = op.cache.k_head(block(key + kKeyTile), task.kv_head);
    }
  }
};

// The scales of a tile of q8_0 keys, or of their values: widened once for all rows.
class TileScales {
 public:
  template <class Lanes>
  void load(const KeyTile::Blocks& blocks, std::size_t dim) {
    for (std::size_t b = 0; b < KeyTile::kBlocks; ++b) {
      const std::uint16_t* scales = kv_scales(blocks[b], dim);
      for (std::size_t g = 0; g < kv_groups(dim); ++g) {
        for (std::size_t j = 0; j < kKvBlock; j += Lanes::kWidth) {
          Lanes::store(at_[g] + b * kKvBlock + j, Lanes::load(scales + g * kKvBlock + j));
        }
      }
    }
  }
  static void prefetch(const KeyTile::Blocks& blocks, std::size_t dim) {
    for (const std::uint8_t* block : blocks) {
      const auto* scales = reinterpret_cast<const std::uint8_t*>(kv_scales(block, dim));
      for (std::size_t at = 0; at < kv_groups(dim) * kKvBlock * sizeof(std::uint16_t); at += 64) {
        _mm_prefetch(scales + at, _MM_HINT_T0);
      }
    }
  }

  // Those of the group that dimension d is in, of each key of the tile.
  const float* group_of(std::size_t d) const { return at_[d / kBlock]; }

 private:
  alignas(64) float at_[kMaxHeadDim / kBlock][kKeyTile];
};

// Rows [begin, end) of a task, at most kRowTile. `Tiling` has the register, `Lanes`, and the register tiles: their
// heights, and for a height the registers of columns, a power of two.
template <class Tiling>
class RowTile {
  using Lanes = typename Tiling::Lanes;

 public:
  RowTile(const Attention& op, const AttentionTask& task, std::size_t begin, std::size_t end)
      : op_(op), task_(task), dim_(op.cache.head_dim), begin_(begin), rows_(end - begin) {
    for (std::size_t r = 0; r < rows_; ++r) {
      row_[r] = attention_row(op, task, begin + r);
      std::copy_n(row_[r].q, dim_, q_ + r * kRowStride);
    }
  }

  void attend_whole() {
    attend_split(0, state_);
    for (std::size_t split = 1; split * kKeySplit < row_[rows_ - 1].keys; ++split) {
      attend_split(split, next_);
      for (std::size_t r = first_row(split * kKeySplit); r < rows_; ++r) {
        merge_row(state_.m[r], state_.l[r], o(state_, r), next_.m[r], next_.l[r], o(next_, r), dim_);
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) write_row(state_.l[r], o(state_, r), dim_, row_[r].out);
  }

  void attend_part() {
    attend_split(task_.split, state_);
    for (std::size_t r = first_row(task_.split * kKeySplit); r < rows_; ++r) {
      float* partial = attention_partial(op_, task_.partial + begin_ + r);
      partial[0] = state_.m[r];
      partial[1] = state_.l[r];
      std::memcpy(partial + 2, o(state_, r), dim_ * sizeof(float));
    }
  }

 private:
  static float* o(Softmax& state, std::size_t r) { return state.o + r * kRowStride; }

  // The rows from this one on see key `key`: numbers of keys ascend.
  std::size_t first_row(std::size_t key) const {
    std::size_t r = 0;
    while (r < rows_ && row_[r].keys <= key) ++r;
    return r;
  }

  // How many keys of the tile that begins at key `first` row r sees.
  std::size_t count(std::size_t r, std::size_t first) const {
    return row_[r].keys <= first ? 0 : std::min(kKeyTile, row_[r].keys - first);
  }

  void attend_split(std::size_t split, Softmax& state) {
    const std::size_t begin = split * kKeySplit, end = std::min(begin + kKeySplit, row_[rows_ - 1].keys);
    state.start(rows_, dim_);
    for (std::size_t first = begin; first < end; first += kKeyTile) {
      const std::size_t active = first_row(first), last = row_[rows_ - 1].keys;
      const KeyTile keys(op_, task_, first, last);
      with_kv_element(op_.cache.k.type, [&](auto element) { scores<decltype(element)>(active, first, keys); });
      softmax(active, first, state);
      with_kv_element(op_.cache.v.type, [&](auto element) { values<decltype(element)>(active, first, keys, state); });
    }
  }

  // p = q K, for the rows from `active` on and whole blocks of keys.
  template <class T>
  void scores(std::size_t active, std::size_t first, const KeyTile& keys) {
    if (op_.cache.v.type == CRIA_TYPE_Q8_0) TileScales::prefetch(keys.v, dim_);
    if constexpr (kQuants<T>) {
      TileScales::prefetch(keys.next_k, dim_);
      k_scales_.template load<Lanes>(keys.k, dim_);
    }
    Tiling::for_register_tiles(active, rows_, [&](std::size_t r, auto height) {
      constexpr int R = height();
      constexpr int P = std::min<int>(KeyTile::kBlocks, Tiling::columns(R) * Lanes::kWidth / kKvBlock);
      score_blocks<T, R, P>(r, 0, (count(r + R - 1, first) + kKvBlock - 1) / kKvBlock, keys);
    });
  }

  // Blocks [b, end) of the tile, P at a time, for rows r ... r + R - 1.
  template <class T, int R, int P>
  void score_blocks(std::size_t r, std::size_t b, std::size_t end, const KeyTile& keys) {
    constexpr int C = P * static_cast<int>(kKvBlock) / Lanes::kWidth;
    constexpr std::size_t kGroup = kQuants<T> ? kBlock : kMaxHeadDim;
    for (; b + P <= end; b += P) {
      const T* k[P];
      const std::uint8_t* v[P];
      for (int p = 0; p < P; ++p) k[p] = reinterpret_cast<const T*>(keys.k[b + p]);
      std::copy_n(keys.v + b, P, v);
      Sums<Lanes, R, C> sums;
      sums.clear();
      for (std::size_t d = 0; d < dim_; d += kGroup) {
        const float* scales = k_scales_.group_of(d) + b * kKvBlock;
        const auto scale = [scales](int c, std::size_t) { return Lanes::load(scales + c * Lanes::kWidth); };
        sums.template add<kRowStride>(q_ + r * kRowStride, k, v, kKvBlock, d, std::min(dim_, d + kGroup), scale);
      }
      sums.store(p_ + r * kKeyTile + b * kKvBlock, kKeyTile);
    }
    if constexpr (P > 1) score_blocks<T, R, P / 2>(r, b, end, keys);
  }

  // Turns the rows' dot products into p, and leaves in c_ what their o is to be multiplied by. Each step is done for
  // all rows before the next, so that one row's waits are filled with another's work.
  void softmax(std::size_t active, std::size_t first, Softmax& state) {
    // Of a full tile the compiler is to know the loops' lengths.
    const auto each_row = [&](auto step) {
      for (std::size_t r = active; r < rows_; ++r) {
        const std::size_t n = count(r, first);
        n == kKeyTile ? step(r, kKeyTile) : step(r, n);
      }
    };
    alignas(64) float m[kRowTile], sum[kRowTile] = {};
    std::copy_n(state.m, kRowTile, m);
    each_row([&](std::size_t r, std::size_t n) __attribute__((always_inline)) {
      m[r] = scale_scores<Lanes>(p_ + r * kKeyTile, n, op_.scale, state.m[r]);
    });
    each_row([&](std::size_t r, std::size_t n)
                 __attribute__((always_inline)) { sum[r] = exp_scores<Lanes>(p_ + r * kKeyTile, n, m[r]); });
    // Of the rows before the first active one, those that have seen a key get c = 1 and a sum of 0; those that have
    // not, NaN, which nothing reads: first_row keeps them out of what follows.
    for (std::size_t r = active / Lanes::kWidth * Lanes::kWidth; r < rows_; r += Lanes::kWidth) {
      const auto top = Lanes::load(m + r);
      const auto c = exp_f32(Lanes::sub(Lanes::load(state.m + r), top));
      Lanes::store(c_ + r, c);
      Lanes::store(state.m + r, top);
      Lanes::store(state.l + r, Lanes::fma(Lanes::load(state.l + r), c, Lanes::load(sum + r)));
    }
  }

  // o = o c + p V, for the rows from `active` on.
  template <class T>
  void values(std::size_t active, std::size_t first, const KeyTile& keys, Softmax& state) {
    if constexpr (kQuants<T>) v_scales_.template load<Lanes>(keys.v, dim_);
    Tiling::for_register_tiles(active, rows_, [&](std::size_t r, auto height) {
      constexpr int R = height();
      std::size_t d = value_columns<T, Lanes, R, Tiling::columns(R)>(r, first, 0, keys, state);
      if constexpr (Lanes::kWidth > 8) value_columns<T, Lanes8, R, 1>(r, first, d, keys, state);
    });
  }

  // Columns from d on, C registers at a time, then fewer, for rows r ... r + R - 1; returns the first that is left.
  template <class T, class Columns, int R, int C>
  std::size_t value_columns(std::size_t r, std::size_t first, std::size_t d, const KeyTile& keys, Softmax& state) {
    for (; d + C * Columns::kWidth <= dim_; d += C * Columns::kWidth) {
      const std::size_t shared = count(r, first), end = count(r + R - 1, first);
      const float* p = p_ + r * kKeyTile;
      // d is a multiple of the C registers' columns: where they are more than a group, groups begin among them.
      const float* scales = v_scales_.group_of(d);
      const auto scale_from = [scales](std::size_t j) {
        return [from = scales + j](int c, std::size_t i) {
          return Columns::all(from[c * Columns::kWidth / static_cast<int>(kBlock) * kKeyTile + i]);
        };
      };
      Sums<Columns, R, C> sums;
      sums.load(o(state, r) + d, kRowStride, c_ + r);
      for (std::size_t j = 0, next; j < shared; j = next) {
        next = std::min(shared, j + kKvBlock);
        const auto* v = reinterpret_cast<const T*>(keys.v[j / kKvBlock]) + d;
        const std::uint8_t* ahead = keys.next_k[j / kKvBlock] + d * sizeof(T);
        sums.template add<kKeyTile, 1>(p + j, {v}, {ahead}, dim_, 0, next - j, scale_from(j));
      }
      // The keys that only the later rows see.
      for (std::size_t j = shared; j < end; ++j) {
        int from = 1;
        while (row_[r + from].keys <= first + j) ++from;
        const auto* v = reinterpret_cast<const T*>(keys.v[j / kKvBlock]) + j % kKvBlock * dim_ + d;
        sums.template add_from<kKeyTile>(from, p + j, v, scale_from(j));
      }
      sums.store(o(state, r) + d, kRowStride);
    }
    if constexpr (C > 1) return value_columns<T, Columns, R, C / 2>(r, first, d, keys, state);
    return d;
  }

  const Attention& op_;
  const AttentionTask& task_;
  const std::size_t dim_, begin_, rows_;
  AttentionRow row_[kRowTile];
  alignas(64) float q_[kRowTile * kRowStride];
  alignas(64) float p_[kRowTile * kKeyTile];
  alignas(64) float c_[kRowTile];
  TileScales k_scales_, v_scales_;
  Softmax state_, next_;
};

template <class Tiling>
void attend_task(const Attention& op, const AttentionTask& task) {
  const std::size_t rows = attention_rows(op, task);
  for (std::size_t begin = 0; begin < rows; begin += kRowTile) {
    RowTile<Tiling> tile(op, task, begin, std::min(rows, begin + kRowTile));
    if (task.split < 0) {
      tile.attend_whole();
    } else {
      tile.attend_part();
    }
  }
}

template <class Tiling>
void attend(const Attention& op, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) attend_task<Tiling>(op, op.tasks[t]);
}

inline void merge_partials(const Attention& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim;
  alignas(64) float o[kMaxHeadDim];
  for (std::size_t i = begin; i < end; ++i) {
    const AttentionMerge& row = op.merges[i];
    const float* partial = attention_partial(op, row.first);
    float m = partial[0], l = partial[1];
    std::memcpy(o, partial + 2, dim * sizeof(float));
    for (std::size_t split = 1; split < row.splits; ++split) {
      partial = attention_partial(op, row.first + split * row.step);
      merge_row(m, l, o, partial[0], partial[1], partial + 2, dim);
    }
    write_row(l, o, dim, op.out + row.row * op.out_stride + row.head * dim);
  }
}

}  // namespace
}  // namespace cria::cpu
