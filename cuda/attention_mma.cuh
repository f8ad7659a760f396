// Attention by mma.m16n8k16 over f16 and q8_0 caches: one kernel, in two shapes.
//
//                64 keys                                       64 keys x kDim
//              ┌───────────┐                                 ┌──────────────┐
//     warp 0   │ S         │   softmax, in registers:        │ O            │     whole: a warp has 32 rows and all
//     warp 1   │  = Q Kᵀ   │   S's accumulators are P's      │   += P V     │     columns, four warps 128 rows
//     warp 2   │           │   operand                       │              │
//     warp 3   │           │                                 │              │
//              └───────────┘                                 └──────────────┘
//
//     warps    ┌───────────┐                                 ┌───┬───┬───┬───┐   split: the warps have the same 16
//     0 to 3   │ S         │                                 │ 0 │ 1 │ 2 │ 3 │   rows, and each a quarter of O's
//              └───────────┘                                 └───┴───┴───┴───┘   columns
//
// In the split shape every warp computes all of S and P for itself. So both shapes run the same instructions for a row,
// which is what makes their bits the same, and warps exchange nothing; the tensor cores have the time (below).
//
// The arithmetic of a row, tile by tile:
//     S      chains over ascending d, 16 at a time, from 0
//     m      the largest score; a maximum has no order
//     l      a lane, of the four that share a row, adds up its sixteen p: 2t and 2t + 1 of each eight keys, ascending;
//            the four are added up, as (0 + 1) + (2 + 3), at the end of a split
//     O      times exp2(m - m'), then 16 keys at a time, ascending
//
// Copies run ahead of their use by one tile: K and V of the next are asked for as soon as K of this one has come. So
// whenever a block waits for memory it has a tile's K and V on their way, of f16 at 128 dimensions 32 KiB.
//
// Whole, for prompts; at 128 dimensions. A block-tile, 128 rows and 64 keys, is 1,024 mma: 1,024 cycles of an SM of
// sm_90 at wgmma's rate, 1,650 at the 62 % of it that mma.sync reaches, which is the bound. A warp issues some 1,200
// instructions for its 256 mma, in as many cycles of its scheduler: 80 ldmatrix, 64 exp2, 128 multiplications that
// rescale O, ... Shared memory is near it: each warp loads K, V and Q by 32 + 32 + 16 ldmatrix of 512 bytes, 160 KiB
// for four warps, and cp.async writes 32 KiB, at 128 bytes a cycle 1,536 cycles. With 16 rows a warp K and V would be
// loaded twice as often, 2,816 cycles for the same work. 32 rows cost 128 registers for O and 64 for S, which is why Q
// is loaded again for each tile, and why the total over splits, which is kept apart from the split at hand so that its
// bits are those of splits computed apart, stands in `out`: 64 KiB a block, in L2, read and written once in 512 keys.
// Two blocks an SM: 99 KiB of shared memory each, all that sm_86 and sm_89 give to one.
//
// Split, for decode; at 128 dimensions in f16. K and V of a tile are 32 KiB: at 75 % of 4.8 TB/s each of 132 SMs, at
// 1.75 GHz, has 2,100 cycles for them. A warp's 64 + 16 mma are 320 cycles of its tensor core, 520 by mma.sync, among
// some 600 instructions; the four warps' 32 + 8 + 8 ldmatrix are 96 KiB, with the 32 KiB of cp.async 1,024 cycles.
// Three blocks an SM, of 70 KiB of shared memory, have 96 KiB on their way; 4.8 TB/s at 750 ns ask for 27 KiB an SM.
//
// Of 256 dimensions a block takes up to 148 KiB: more than sm_86 and sm_89 give, which take attention_f32.cuh's kernel.
#pragma once

#include "attention_rows.cuh"
#include "attention_tiles.cuh"
#include "reduce.cuh"

namespace cria::cuda {

// kDim: head_dim, filled up with zeros. A warp has kRowTiles times 16 rows.
template <int kDim_, bool kSplit_, int kRowTiles_, int kRowWarps_, int kColumnWarps_, int kBlocks_>
struct AttentionShape {
  static constexpr int kDim = kDim_, kRowTiles = kRowTiles_, kRowWarps = kRowWarps_, kColumnWarps = kColumnWarps_;
  static constexpr bool kSplit = kSplit_;
  static constexpr int kBlocks = kBlocks_;  // an SM, of sm_90's 227 KiB and 65,536 registers
  static constexpr int kWarpRows = 16 * kRowTiles, kRows = kWarpRows * kRowWarps;
  static constexpr int kThreads = 32 * kRowWarps * kColumnWarps;
  static constexpr int kColumnTiles = kDim / 8 / kColumnWarps;  // of eight columns, a warp
  static constexpr int kKeyTiles = kKeyTile / 8;                // of eight keys
  using Tiles = KeyTiles<kDim, kThreads>;
};

template <class S>
struct AttentionShared {
  uint4 q[S::kRows * S::kDim / 8];
  uint4 k[S::Tiles::kSharedChunks], v[S::Tiles::kSharedChunks];
  float2 total[S::kRows];  // m and l over the splits so far
};

// What a lane holds of its warp's rows. Of row tile r it has rows lane / 4 + 8 h, h = 0, 1, and of each eight columns
// 2 (lane % 4) and the next: element 2 h + j of four.
template <class S>
struct AttentionLane {
  int keys[S::kRowTiles][2];  // that the row sees
  int least;                  // of the warp's rows that are there
  float m[S::kRowTiles][2], l[S::kRowTiles][2];
  float o[S::kRowTiles][S::kColumnTiles][4];
};

template <class S>
using Scores = float[S::kRowTiles][S::kKeyTiles][4];
template <class S>
using Probabilities = std::uint32_t[S::kRowTiles][kKeyTile / 16][4];  // binary16, as A operands

// The first of the warp's rows, of those of the block, and the one that this lane has as (r, h).
template <class S>
__device__ inline int warp_row() {
  return threadIdx.x / 32 % S::kRowWarps * S::kWarpRows;
}
template <class S>
__device__ inline int lane_row(int r, int h) {
  return warp_row<S>() + 16 * r + 8 * h + threadIdx.x % 32 / 4;
}
// The first of the warp's columns.
template <class S>
__device__ inline int warp_column() {
  return threadIdx.x / 32 / S::kRowWarps * S::kColumnTiles * 8;
}

// The tile and the kv head of this block of threads, and the first of its rows. Where they are needed they are made
// anew: kept, they would take registers from the loop over keys.
//
// Blocks of threads: x a tile, the last one first, for it is the longest; y a kv head and S::kRows rows of the tile; z
// a split.
__device__ inline AttentionRows block_rows(const Attention& op) {
  return {op, *op.tile_rows.count - 1 - static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y) % op.cache.kv_heads};
}
template <class S>
__device__ inline int first_row_of(const Attention& op) {
  return static_cast<int>(blockIdx.y) / op.cache.kv_heads * S::kRows;
}

// How many keys each row of the lane sees.
template <class S>
__device__ inline void see_keys(const Attention& op, AttentionLane<S>& lane) {
  const AttentionRows rows = block_rows(op);
  const int first_row = first_row_of<S>(op);
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) lane.keys[r][h] = rows.keys(first_row + lane_row<S>(r, h));
  }
  lane.least = rows.keys(first_row + warp_row<S>());
}

template <class S>
__device__ inline void begin_split(AttentionLane<S>& lane) {
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
    lane.m[r][0] = lane.m[r][1] = kNoScore;
    lane.l[r][0] = lane.l[r][1] = 0.0f;
#pragma unroll
    for (int n = 0; n < S::kColumnTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) lane.o[r][n][i] = 0.0f;
    }
  }
}

// Writes the block's rows of q, times the scale, to shared memory.
template <class S>
__device__ inline void load_queries(const Attention& op, uint4* shared) {
  const AttentionRows rows = block_rows(op);
  const int first_row = first_row_of<S>(op);
  constexpr int kChunks = S::kDim / 8;
  const HalfTile<S::kDim> tile{shared, 0};
  const float scale = op.scale * kLog2OfE;
  for (int c = threadIdx.x; c < S::kRows * kChunks; c += S::kThreads) {
    const int row = c / kChunks, chunk = c % kChunks;
    uint4 halves = {0, 0, 0, 0};
    if (first_row + row < rows.count() && chunk * 8 < op.cache.head_dim) {
      const auto* q = reinterpret_cast<const float4*>(rows.q(first_row + row) + chunk * 8);
      const float4 a = q[0], b = q[1];
      halves = {pack_halves(a.x * scale, a.y * scale), pack_halves(a.z * scale, a.w * scale),
                pack_halves(b.x * scale, b.y * scale), pack_halves(b.z * scale, b.w * scale)};
    }
    *tile.at(row, chunk) = halves;
  }
}

// s = q k
template <class S>
__device__ inline void multiply_keys(HalfTile<S::kDim> q, HalfTile<S::kDim> k, Scores<S>& s) {
  const auto rows = down_first(q), keys = across_first(k);
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < S::kKeyTiles; ++n) s[r][n][0] = s[r][n][1] = s[r][n][2] = s[r][n][3] = 0.0f;
  }
#pragma unroll
  for (int d = 0; d < S::kDim; d += 16) {
    std::uint32_t a[S::kRowTiles][4];
#pragma unroll
    for (int r = 0; r < S::kRowTiles; ++r) ldmatrix_x4(a[r], rows.at(warp_row<S>() + 16 * r, d / 8));
#pragma unroll
    for (int n = 0; n < S::kKeyTiles; n += 2) {
      std::uint32_t b[4];
      ldmatrix_x4(b, keys.at(8 * n, d / 8));
#pragma unroll
      for (int r = 0; r < S::kRowTiles; ++r) {
        mma_f16(s[r][n], a[r], {b[0], b[1]});
        mma_f16(s[r][n + 1], a[r], {b[2], b[3]});
      }
    }
  }
}

// Takes the scores of keys that a row does not see out; the tile's first is `first`.
template <class S>
__device__ inline void mask_scores(const AttentionLane<S>& lane, int first, Scores<S>& s) {
  const int t = thread_index() % 4;  // anew: else all of this is done for every tile, by selects in place of a branch
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll
    for (int n = 0; n < S::kKeyTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (first + 8 * n + 2 * t + i % 2 >= lane.keys[r][i / 2]) s[r][n][i] = kNoScore;
      }
    }
  }
}

// Makes p of the scores, and rescales what came before to the new maximum. The scores are left as p in binary32.
template <class S>
__device__ inline void softmax(AttentionLane<S>& lane, Scores<S>& s, Probabilities<S>& p) {
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float m = lane.m[r][h];
#pragma unroll
      for (int n = 0; n < S::kKeyTiles; ++n) m = fmaxf(m, fmaxf(s[r][n][2 * h], s[r][n][2 * h + 1]));
      m = warp_reduce_max<4>(m);
      const float base = score_base(m);
      float sum = 0.0f;
#pragma unroll
      for (int n = 0; n < S::kKeyTiles; ++n) {
        const float p0 = exp2_approx(s[r][n][2 * h] - base), p1 = exp2_approx(s[r][n][2 * h + 1] - base);
        sum += p0 + p1;
        p[r][n / 2][h + n % 2 * 2] = pack_halves(p0, p1);
      }
      const float rescale = exp2_approx(lane.m[r][h] - base);
      lane.l[r][h] = fmaf(lane.l[r][h], rescale, sum);
      lane.m[r][h] = m;
#pragma unroll
      for (int n = 0; n < S::kColumnTiles; ++n) {
        lane.o[r][n][2 * h] *= rescale;
        lane.o[r][n][2 * h + 1] *= rescale;
      }
    }
  }
}

// o += p v
template <class S>
__device__ inline void multiply_values(HalfTile<S::kDim> v, const Probabilities<S>& p, AttentionLane<S>& lane) {
  const auto values = down_first(v);
#pragma unroll
  for (int j = 0; j < kKeyTile / 16; ++j) {
#pragma unroll
    for (int n = 0; n < S::kColumnTiles; n += 2) {
      std::uint32_t b[4];
      ldmatrix_x4_trans(b, values.at(16 * j, warp_column<S>() / 8 + n));
#pragma unroll
      for (int r = 0; r < S::kRowTiles; ++r) {
        mma_f16(lane.o[r][n], p[r][j], {b[0], b[1]});
        mma_f16(lane.o[r][n + 1], p[r][j], {b[2], b[3]});
      }
    }
  }
}

// Whether the warp's columns of a tile are numbers: 0 times a number is 0, times NaN or an infinity it is not.
template <class S>
__device__ inline bool finite_values(HalfTile<S::kDim> v) {
  constexpr int kChunks = S::kColumnTiles;
  std::uint32_t special = 0;  // the sign bits, to which an exponent of ones carries
  for (int c = threadIdx.x % 32; c < kKeyTile * kChunks; c += 32) {
    const uint4 x = *v.at(c / kChunks, warp_column<S>() / 8 + c % kChunks);
    for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) special |= (pair & 0x7c007c00) + 0x04000400;
  }
  return !__any_sync(kAllLanes, (special & 0x80008000) != 0);
}

// Two of a B operand's values, of keys `key` and the next, without those that stand at `seen` or behind.
__device__ inline std::uint32_t seen_values(std::uint32_t pair, int key, int seen) {
  return pair & ((key < seen ? 0xffffu : 0u) | (key + 1 < seen ? 0xffff0000u : 0u));
}

// From one array to another of the same shape.
template <int kRows, int kColumns>
__device__ inline void copy_sums(const float (&from)[kRows][kColumns][4], float (&to)[kRows][kColumns][4]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) to[r][n][i] = from[r][n][i];
    }
  }
}

// multiply_values where a row must not meet the values of keys that it does not see, for they are not numbers: row by
// row, without them. Slow, and rare: its sums go through local memory, so that the registers are those of the other.
template <class S>
__device__ inline void multiply_seen_values(HalfTile<S::kDim> v, int first, const Probabilities<S>& p,
                                            AttentionLane<S>& lane) {
  const int t = thread_index() % 4;
  const auto values = down_first(v);
  float sums[S::kRowTiles][S::kColumnTiles][4];
  copy_sums(lane.o, sums);
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll 1
    for (int i = 0; i < 16 * S::kColumnTiles / 2; ++i) {
      const int row = i % 16, n = i / 16 * 2;
      const int keys = row < 8 ? lane.keys[r][0] : lane.keys[r][1];
      const int seen = __shfl_sync(kAllLanes, keys, row % 8 * 4) - first;
      float o[2][4] = {{sums[r][n][0], sums[r][n][1], sums[r][n][2], sums[r][n][3]},
                       {sums[r][n + 1][0], sums[r][n + 1][1], sums[r][n + 1][2], sums[r][n + 1][3]}};
#pragma unroll
      for (int j = 0; j < kKeyTile / 16; ++j) {
        const int key = 16 * j + 2 * t;
        std::uint32_t b[4];
        ldmatrix_x4_trans(b, values.at(16 * j, warp_column<S>() / 8 + n));
        mma_f16(o[0], p[r][j], {seen_values(b[0], key, seen), seen_values(b[1], key + 8, seen)});
        mma_f16(o[1], p[r][j], {seen_values(b[2], key, seen), seen_values(b[3], key + 8, seen)});
      }
      // A row's sums are not read by the rows after it: what is added to the others' is dropped.
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (row != thread_index() % 32 / 4 + e / 2 * 8) continue;
        sums[r][n][e] = o[0][e];
        sums[r][n + 1][e] = o[1][e];
      }
    }
  }
  copy_sums(sums, lane.o);
}

// A lane's columns of a row of o, in pairs: f(n, column).
template <class S, class F>
__device__ inline void each_column(int head_dim, const F& f) {
#pragma unroll
  for (int n = 0; n < S::kColumnTiles; ++n) {
    const int column = warp_column<S>() + 8 * n;
    if (column < head_dim) f(n, column + threadIdx.x % 4 * 2);
  }
}

// Leaves m, l and o of a row's split to attention_merge.
template <class S>
__device__ inline void store_partial(const AttentionRows& rows, int row, int split, const AttentionLane<S>& lane, int r,
                                     int h) {
  float* partial = rows.partial(row, split);
  if (warp_column<S>() == 0 && threadIdx.x % 4 == 0) {
    *reinterpret_cast<float2*>(partial) = {lane.m[r][h], lane.l[r][h]};
  }
  each_column<S>(rows.op.cache.head_dim, [&](int n, int column) {
    *reinterpret_cast<float2*>(partial + 2 + column) = {lane.o[r][n][2 * h], lane.o[r][n][2 * h + 1]};
  });
}

// Adds a row's split to its total, whose m and l were `before` and whose o stands in `out`, divides by l after the
// last, and returns the new m and l.
template <class S>
__device__ inline float2 add_split(const AttentionRows& rows, int row, int split, const AttentionLane<S>& lane, int r,
                                   int h, float2 before) {
  const bool first = split == 0, last = lane.keys[r][h] <= (split + 1) * kKeySplit;
  const MergedSplits merged(before.x, before.y, lane.m[r][h], lane.l[r][h]);
  const float2 total = first ? float2{lane.m[r][h], lane.l[r][h]} : float2{merged.m, merged.l};
  const float divide = last ? 1.0f / total.y : 1.0f;
  float* out = rows.out(row);
  each_column<S>(rows.op.cache.head_dim, [&](int n, int column) {
    auto* pair = reinterpret_cast<float2*>(out + column);
    float2 o = {lane.o[r][n][2 * h], lane.o[r][n][2 * h + 1]};
    if (!first) o = {merged.merge(pair->x, o.x), merged.merge(pair->y, o.y)};
    *pair = {o.x * divide, o.y * divide};
  });
  return total;
}

// What is done with a split's m, l and o, for the rows that see one of its keys.
template <class S>
__device__ inline void end_split(const Attention& op, int split, AttentionLane<S>& lane, float2* total) {
  const AttentionRows rows = block_rows(op);
#pragma unroll
  for (int r = 0; r < S::kRowTiles; ++r) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      lane.l[r][h] = warp_reduce_add<4>(lane.l[r][h]);
      const bool sees = lane.keys[r][h] > split * kKeySplit;
      const int row = first_row_of<S>(op) + lane_row<S>(r, h);
      if constexpr (S::kSplit) {
        if (sees) store_partial<S>(rows, row, split, lane, r, h);
      } else {
        float2& of_row = total[lane_row<S>(r, h)];
        const float2 before = of_row;
        __syncwarp();  // all four lanes of the row have read it
        if (sees) of_row = add_split<S>(rows, row, split, lane, r, h, before);
      }
    }
  }
}

constexpr int kSplitTiles = kKeySplit / kKeyTile;

// The tiles of keys that a block goes over; none where there is nothing to do.
struct KeyRange {
  int first_tile = 0, end_tile = 0;
  int end_key = 0;  // of the last row
};

template <class S>
__device__ inline KeyRange key_range(const Attention& op) {
  if (static_cast<int>(blockIdx.x) >= *op.tile_rows.count) return {};
  const AttentionRows rows = block_rows(op);
  const int first_row = first_row_of<S>(op);
  if (first_row >= rows.count()) return {};
  const int end_key = rows.keys(min(first_row + S::kRows, rows.count()) - 1);
  const int first_key = S::kSplit ? static_cast<int>(blockIdx.z) * kKeySplit : 0;
  const int end = S::kSplit ? min(end_key, first_key + kKeySplit) : end_key;
  return {first_key / kKeyTile, (end + kKeyTile - 1) / kKeyTile, end_key};
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks) attention_mma_kernel(Attention op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const KeyRange range = key_range<S>(op);
  if (range.first_tile >= range.end_tile) return;

  AttentionShared<S>& shared = shared_memory<AttentionShared<S>>();
  const HalfTile<S::kDim> q{shared.q, 0};
  const typename S::Tiles k(op.cache, op.cache.k, block_rows(op).kv_head, range.end_key, shared.k);
  const typename S::Tiles v(op.cache, op.cache.v, block_rows(op).kv_head, range.end_key, shared.v);
  const std::int32_t* table = block_rows(op).blocks();

  const auto fetch = [&](int t) {  // two groups, empty ones behind the last tile
    const TileBlocks blocks(table, t, range.end_key);
    if (t < range.end_tile) k.fetch(t, blocks);
    cp_async_commit();
    if (t < range.end_tile) v.fetch(t, blocks);
    cp_async_commit();
  };
  fetch(range.first_tile);
  load_queries<S>(op, shared.q);
  AttentionLane<S> lane;
  see_keys<S>(op, lane);
  for (int t = range.first_tile; t < range.end_tile;) {
    const int split = t / kSplitTiles, split_end = min(range.end_tile, (split + 1) * kSplitTiles);
    begin_split<S>(lane);
    for (; t < split_end; ++t) {
      cp_async_wait<1>();  // K of this tile; V of it may be on its way
      __syncthreads();
      fetch(t + 1);
      if (k.quantised()) {
        k.widen(t);
        __syncthreads();
      }
      const int first = t * kKeyTile;
      const bool masked = first + kKeyTile > lane.least;  // the same for all lanes of a warp
      Scores<S> s;
      multiply_keys<S>(q, k.ready(t), s);
      if (masked) mask_scores<S>(lane, first, s);
      Probabilities<S> p;
      softmax<S>(lane, s, p);

      cp_async_wait<2>();  // V of this tile; K and V of the next may be on their way
      __syncthreads();
      if (v.quantised()) {
        v.widen(t);
        __syncthreads();
      }
      if (masked && !finite_values<S>(v.ready(t))) {
        multiply_seen_values<S>(v.ready(t), first, p, lane);
      } else {
        multiply_values<S>(v.ready(t), p, lane);
      }
    }
    end_split<S>(op, split, lane, shared.total);
  }
}

}  // namespace cria::cuda
