// A tile of up to 12 rows (queries x heads of a group) goes over the keys together, 64 at a time, in register tiles:
//
//              K: 4 blocks of 16 keys                       V: head_dim
//             ┌─────┬─────┬─────┬─────┐              ┌─────┬─────┬── ...
//    q        │     │     │     │     │     p        │     │     │
//    6 rows   │6x16 │     │     │     │     6 rows   │6x16 │     │    o
//             └─────┴─────┴─────┴─────┘              └─────┴─────┴── ...
//              += q[d] K[d][16 keys]                  += p[j] V[j][16 d]
//
// Both products are one loop, Sums::add: a broadcast times a row of K or V. Rows of a tile end at different keys; those
// that they do not share are done row by row, so no key past a row's own is used.
#include "../attention.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "../exp.h"
#include "../reduce.h"

namespace cria::cpu::avx2 {
namespace {

// K and V are read again for each tile of rows: at 12 rows of 128 dimensions 2.7 bytes of f16 for each 32 flop, a
// cycle's worth, which L2 gives easily. The rows' o and p, 9 KiB there, stay in L1.
constexpr std::size_t kRowTile = 12;

__m256 load(const float* x) { return _mm256_loadu_ps(x); }
__m256 load(const std::uint16_t* x) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x))); }

// A register tile of sums: R rows by P panels of 8 W columns.
//
// The loops are unrolled by order: left to itself, GCC 12 writes the array back to memory at every step.
template <int R, int P, int W>
class Sums {
 public:
  [[gnu::always_inline]] void clear() {
    each([](__m256& sum, int, int) { sum = _mm256_setzero_ps(); });
  }
  // Row r at row[r], its columns side by side.
  [[gnu::always_inline]] void load(float* const (&row)[R]) {
    each([&](__m256& sum, int r, int column) { sum = _mm256_loadu_ps(row[r] + column); });
  }
  [[gnu::always_inline]] void store(float* const (&row)[R]) {
    each([&](__m256& sum, int r, int column) { _mm256_storeu_ps(row[r] + column, sum); });
  }

  // sum[r][p][c] += a[r][i] * b[p][i * step + c] for ascending i in [0, n). Meanwhile fetches `ahead`, what b will be a
  // tile of keys later, into L1.
  template <class T>
  [[gnu::always_inline]] void add(const float* const (&a)[R], const T* const (&b)[P], const T* const (&ahead)[P],
                                  std::size_t step, std::size_t n) {
    constexpr int line = 8 / sizeof(T);  // registers of columns in a cache line
    for (std::size_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        __m256 x[W];
#pragma GCC unroll 8
        for (int w = 0; w < W; w += line) _mm_prefetch(ahead[p] + i * step + 8 * w, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) x[w] = avx2::load(b[p] + i * step + 8 * w);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
          const __m256 s = _mm256_broadcast_ss(a[r] + i);
#pragma GCC unroll 8
          for (int w = 0; w < W; ++w) sum_[r][p][w] = _mm256_fmadd_ps(s, x[w], sum_[r][p][w]);
        }
      }
    }
  }

 private:
  template <class F>
  [[gnu::always_inline]] void each(F f) {
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) f(sum_[r][p][w], r, 8 * (p * W + w));
      }
    }
  }

  __m256 sum_[R][P][W];
};

// The registers of columns in a register tile of R rows. Two fused multiply-adds a cycle, each of four cycles, want
// eight sums at least; six rows by two are the most that leave room for the operands, two registers of columns and a
// broadcast.
constexpr int columns(int R) { return R == 6 ? 2 : 8 / R; }

// Calls f(first row, height) for register tiles of 6, 2 and 1 rows, the height being a constant.
template <class F>
void for_register_tiles(std::size_t row, std::size_t end, F f) {
  for (; row + 6 <= end; row += 6) f(row, std::integral_constant<int, 6>());
  for (; row + 2 <= end; row += 2) f(row, std::integral_constant<int, 2>());
  for (; row < end; ++row) f(row, std::integral_constant<int, 1>());
}

// The running softmax of one row. From these values a first tile comes out as attention.h has it: its c is finite, so
// 0 c = 0 and fma(0, c, sum) = sum.
struct Softmax {
  float m, l;
  float* o;  // [head_dim]

  void start(std::size_t dim) {
    m = -std::numeric_limits<float>::infinity();
    l = 0.0f;
    std::memset(o, 0, dim * sizeof(float));
  }
};

float largest(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Ones in the lanes j, j + 1, ... j + 7 that are below n.
__m256 below(std::size_t n, std::size_t j) {
  const __m256i lane =
      _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(j)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}

// Turns `n` dot products, and what stands after them up to a multiple of 16, into p, with zeros after them; rescales
// what came before to the new maximum.
void softmax(float* p, std::size_t n, float scale, std::size_t dim, Softmax& state) {
  const __m256 none = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  __m256 top = _mm256_set1_ps(state.m);
  for (std::size_t j = 0; j < n; j += 8) {
    const __m256 score = _mm256_mul_ps(load(p + j), _mm256_set1_ps(scale));
    _mm256_storeu_ps(p + j, score);
    top = _mm256_max_ps(_mm256_blendv_ps(none, score, below(n, j)), top);
  }
  const float m = largest(top);

  __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (std::size_t j = 0; j < n; j += kLanes) {
    for (int half = 0; half < 2; ++half) {
      float* at = p + j + 8 * half;
      const __m256 e = exp_f32(_mm256_sub_ps(load(at), _mm256_set1_ps(m)));
      const __m256 kept = _mm256_and_ps(e, below(n, j + 8 * half));
      _mm256_storeu_ps(at, kept);
      sum[half] = _mm256_add_ps(sum[half], kept);
    }
  }
  const float total = sum_lanes(sum[0], sum[1]);

  if (m == state.m) {  // c is exactly 1
    state.l += total;
    return;
  }
  const float c = exp_f32(state.m - m);
  state.m = m;
  state.l = std::fma(state.l, c, total);
  for (std::size_t d = 0; d < dim; d += 8) {
    _mm256_storeu_ps(state.o + d, _mm256_mul_ps(load(state.o + d), _mm256_set1_ps(c)));
  }
}

void merge(Softmax& state, float m2, float l2, const float* o2, std::size_t dim) {
  const float m = m2 > state.m ? m2 : state.m;
  const float a = exp_f32(state.m - m), b = exp_f32(m2 - m);
  state.m = m;
  state.l = std::fma(state.l, a, l2 * b);
  for (std::size_t d = 0; d < dim; d += 8) {
    const __m256 added = _mm256_mul_ps(load(o2 + d), _mm256_set1_ps(b));
    _mm256_storeu_ps(state.o + d, _mm256_fmadd_ps(load(state.o + d), _mm256_set1_ps(a), added));
  }
}

void write(const Softmax& state, std::size_t dim, float* out) {
  const __m256 scale = _mm256_set1_ps(1.0f / state.l);
  for (std::size_t d = 0; d < dim; d += 8) _mm256_storeu_ps(out + d, _mm256_mul_ps(load(state.o + d), scale));
}

void store(const Softmax& state, std::size_t dim, float* partial) {
  partial[0] = state.m;
  partial[1] = state.l;
  std::memcpy(partial + 2, state.o, dim * sizeof(float));
}

// Rows [begin, end) of a task, at most kRowTile.
template <class T>
class RowTile {
 public:
  RowTile(const Attention& op, const AttentionTask& task, std::size_t begin, std::size_t end)
      : op_(op), task_(task), dim_(op.cache.head_dim), begin_(begin), rows_(end - begin) {
    for (std::size_t r = 0; r < rows_; ++r) {
      row_[r] = attention_row(op, task, begin + r);
      state_[r].o = o_[0] + r * dim_;
      next_[r].o = o_[1] + r * dim_;
    }
  }

  void attend_whole() {
    attend_split(0, state_);
    for (std::size_t split = 1; split * kKeySplit < row_[rows_ - 1].keys; ++split) {
      attend_split(split, next_);
      for (std::size_t r = first_row(split * kKeySplit); r < rows_; ++r) {
        merge(state_[r], next_[r].m, next_[r].l, next_[r].o, dim_);
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) write(state_[r], dim_, row_[r].out);
  }

  void attend_part() {
    attend_split(task_.split, state_);
    for (std::size_t r = first_row(task_.split * kKeySplit); r < rows_; ++r) {
      store(state_[r], dim_, attention_partial(op_, task_.partial + begin_ + r));
    }
  }

 private:
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

  std::size_t block(std::size_t key) const { return op_.sequences[task_.sequence].blocks[key / kKvBlock]; }
  const T* k(std::size_t key) const { return reinterpret_cast<const T*>(op_.cache.k_head(block(key), task_.kv_head)); }
  const T* v(std::size_t key) const { return reinterpret_cast<const T*>(op_.cache.v_head(block(key), task_.kv_head)); }

  // The key a tile on from this one, to be fetched while this one is used: a block of one head is 4 KiB in f16 at 128
  // dimensions, and the next lies elsewhere, so the processor's own prefetching starts afresh at each and would leave
  // half of the memory's bandwidth unused.
  std::size_t tile_on(std::size_t key) const { return key + kKeyTile < row_[rows_ - 1].keys ? key + kKeyTile : key; }

  void attend_split(std::size_t split, Softmax* state) {
    const std::size_t begin = split * kKeySplit, end = std::min(begin + kKeySplit, row_[rows_ - 1].keys);
    for (std::size_t r = 0; r < rows_; ++r) state[r].start(dim_);
    for (std::size_t first = begin; first < end; first += kKeyTile) {
      const std::size_t active = first_row(first);
      for_register_tiles(active, rows_, [&](std::size_t r, auto height) { scores<height()>(r, first); });
      for (std::size_t r = active; r < rows_; ++r) softmax(p_[r], count(r, first), op_.scale, dim_, state[r]);
      for_register_tiles(active, rows_, [&](std::size_t r, auto height) { values<height()>(r, first, state); });
    }
  }

  // p = q K, for rows r ... r + R - 1 and whole blocks of keys.
  template <int R>
  void scores(std::size_t r, std::size_t first) {
    constexpr std::size_t P = columns(R) / 2;
    const std::size_t blocks = (count(r + R - 1, first) + kKvBlock - 1) / kKvBlock;
    std::size_t b = 0;
    for (; b + P <= blocks; b += P) score_blocks<R, P>(r, first, b);
    if constexpr (P > 1) {
      for (; b < blocks; ++b) score_blocks<R, 1>(r, first, b);
    }
  }

  // P of the tile's blocks.
  template <int R, int P>
  void score_blocks(std::size_t r, std::size_t first, std::size_t b) {
    const float* q[R];
    float* p[R];
    const T *keys[P], *ahead[P];
    for (int i = 0; i < R; ++i) q[i] = row_[r + i].q;
    for (int i = 0; i < R; ++i) p[i] = p_[r + i] + b * kKvBlock;
    for (int i = 0; i < P; ++i) {
      const std::size_t key = first + (b + i) * kKvBlock;
      keys[i] = k(key);
      ahead[i] = k(tile_on(key));
    }
    Sums<R, P, 2> sums;
    sums.clear();
    sums.add(q, keys, ahead, kKvBlock, dim_);
    sums.store(p);
  }

  // o += p V, for rows r ... r + R - 1: the keys that all of them see, then each row's own.
  template <int R>
  void values(std::size_t r, std::size_t first, Softmax* state) {
    const std::size_t shared = count(r, first);
    add_values<R>(r, first, 0, shared, state);
    if constexpr (R > 1) {
      for (int i = 1; i < R; ++i) add_values<1>(r + i, first, shared, count(r + i, first), state);
    }
  }

  // Keys [begin, end) of the tile.
  template <int R>
  void add_values(std::size_t r, std::size_t first, std::size_t begin, std::size_t end, Softmax* state) {
    constexpr int W = columns(R);
    std::size_t d = 0;
    for (; d + 8 * W <= dim_; d += 8 * W) add_columns<R, W>(r, first, begin, end, d, state);
    for (; d < dim_; d += 8) add_columns<R, 1>(r, first, begin, end, d, state);
  }

  // Columns d ... d + 8 W - 1.
  template <int R, int W>
  void add_columns(std::size_t r, std::size_t first, std::size_t begin, std::size_t end, std::size_t d,
                   Softmax* state) {
    float* o[R];
    for (int i = 0; i < R; ++i) o[i] = state[r + i].o + d;
    Sums<R, 1, W> sums;
    sums.load(o);
    for (std::size_t j = begin, next; j < end; j = next) {
      next = std::min(end, j / kKvBlock * kKvBlock + kKvBlock);
      const float* p[R];
      for (int i = 0; i < R; ++i) p[i] = p_[r + i] + j;
      const std::size_t offset = j % kKvBlock * dim_ + d;
      sums.add(p, {v(first + j) + offset}, {v(tile_on(first + j)) + offset}, dim_, next - j);
    }
    sums.store(o);
  }

  const Attention& op_;
  const AttentionTask& task_;
  const std::size_t dim_, begin_, rows_;
  AttentionRow row_[kRowTile];
  Softmax state_[kRowTile], next_[kRowTile];
  alignas(32) float p_[kRowTile][kKeyTile];
  alignas(32) float o_[2][kRowTile * kMaxHeadDim];
};

template <class T>
void attend(const Attention& op, const AttentionTask& task) {
  const std::size_t rows = attention_rows(op, task);
  for (std::size_t begin = 0; begin < rows; begin += kRowTile) {
    RowTile<T> tile(op, task, begin, std::min(rows, begin + kRowTile));
    if (task.split < 0) {
      tile.attend_whole();
    } else {
      tile.attend_part();
    }
  }
}

}  // namespace

void attention(const Attention& op, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    if (op.cache.type == CRIA_TYPE_F32) {
      attend<float>(op, op.tasks[t]);
    } else {
      attend<std::uint16_t>(op, op.tasks[t]);
    }
  }
}

void attention_merge(const Attention& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim;
  alignas(32) float o[kMaxHeadDim];
  for (std::size_t i = begin; i < end; ++i) {
    const AttentionMerge& row = op.merges[i];
    const float* partial = attention_partial(op, row.first);
    Softmax state = {partial[0], partial[1], o};
    std::memcpy(o, partial + 2, dim * sizeof(float));
    for (std::size_t split = 1; split < row.splits; ++split) {
      partial = attention_partial(op, row.first + split * row.step);
      merge(state, partial[0], partial[1], partial + 2, dim);
    }
    write(state, dim, op.out + row.row * op.out_stride + row.head * dim);
  }
}

}  // namespace cria::cpu::avx2
