// Attention where K or V is f32, or the tiles of attention_mma.cuh do not fit: plain, in binary32, in the same splits
// and tiles. It is for comparison, not for speed: every row reads its keys and values for itself, number by number.
//
// A warp has a row. Over the keys of a tile a lane has two, 32 apart, and each dot is one chain of fma over ascending
// d; over columns it has every 32nd, and each o is one chain over ascending keys. A tile's p are added up in pairs,
// then by reduce.cuh's butterfly over the lanes.
#pragma once

#include "attention_rows.cuh"
#include "reduce.cuh"

namespace cria::cuda {

constexpr int kF32Warps = 4;
constexpr int kLaneKeys = kKeyTile / 32, kLaneColumns = 256 / 32;

// m and l of a row, and every 32nd column of o, times l.
struct RowSoftmax {
  float m = kNoScore, l = 0.0f;
  float o[kLaneColumns] = {};

  // f(i, column), of o[i].
  template <class F>
  __device__ static void each_column(int head_dim, const F& f) {
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) {
      const int column = 32 * i + threadIdx.x % 32;
      if (column < head_dim) f(i, column);
    }
  }

  __device__ void load(const float* partial, int head_dim) {
    m = partial[0];
    l = partial[1];
    each_column(head_dim, [&](int i, int column) { o[i] = partial[2 + column]; });
  }
  __device__ void store(float* partial, int head_dim) const {
    if (threadIdx.x % 32 == 0) *reinterpret_cast<float2*>(partial) = {m, l};
    each_column(head_dim, [&](int i, int column) { partial[2 + column] = o[i]; });
  }
  __device__ void add(const RowSoftmax& split) {
    const MergedSplits merged(m, l, split.m, split.l);
    m = merged.m;
    l = merged.l;
#pragma unroll
    for (int i = 0; i < kLaneColumns; ++i) o[i] = merged.merge(o[i], split.o[i]);
  }
  // Divides by l, and writes the row.
  __device__ void write(float* out, int head_dim) {
    const float scale = 1.0f / l;
    for (float& x : o) x *= scale;
    each_column(head_dim, [&](int i, int column) { out[column] = o[i]; });
  }
};

__device__ inline KvPlace place_of(const AttentionRows& rows, const KvSide& side, int key) {
  const KvLayer& cache = rows.op.cache;
  std::uint8_t* block = kv_head(cache, side, rows.blocks()[key / kKvBlock], rows.kv_head);
  return {side.type, block, cache.head_dim, key % kKvBlock};
}

__device__ inline float score(const AttentionRows& rows, const float* q, int key) {
  const KvPlace k = place_of(rows, rows.op.cache.k, key);
  float dot = 0.0f;
  for (int d = 0; d < rows.op.cache.head_dim; ++d) dot = fmaf(q[d], k.read(d), dot);
  return dot * (rows.op.scale * kLog2OfE);
}

// Keys [first, first + count) of the row's sequence, at most kKeyTile.
__device__ inline void attend_tile(const AttentionRows& rows, const float* q, int first, int count,
                                   RowSoftmax& softmax) {
  const int lane = threadIdx.x % 32, dim = rows.op.cache.head_dim;
  float p[kLaneKeys];
#pragma unroll
  for (int i = 0; i < kLaneKeys; ++i) {
    p[i] = 32 * i + lane < count ? score(rows, q, first + 32 * i + lane) : kNoScore;
  }
  const float m = warp_reduce_max(fmaxf(softmax.m, fmaxf(p[0], p[1])));
  const float base = score_base(m), rescale = exp2_approx(softmax.m - base);
  for (float& x : p) x = exp2_approx(x - base);
  softmax.l = fmaf(softmax.l, rescale, warp_reduce_add(p[0] + p[1]));
  softmax.m = m;
  for (float& o : softmax.o) o *= rescale;
  for (int j = 0; j < count; ++j) {
    const float of_key = __shfl_sync(kAllLanes, j < 32 ? p[0] : p[1], j % 32);
    const KvPlace v = place_of(rows, rows.op.cache.v, first + j);
    RowSoftmax::each_column(dim, [&](int i, int d) { softmax.o[i] = fmaf(of_key, v.read(d), softmax.o[i]); });
  }
}

__device__ inline RowSoftmax attend_split(const AttentionRows& rows, const float* q, int split, int keys) {
  const int end = min(keys, (split + 1) * kKeySplit);
  RowSoftmax softmax;
  for (int first = split * kKeySplit; first < end; first += kKeyTile) {
    attend_tile(rows, q, first, min(kKeyTile, end - first), softmax);
  }
  return softmax;
}

// Blocks of threads as attention_mma_kernel's, of kF32Warps rows.
__global__ void __launch_bounds__(32 * kF32Warps, 4) attention_f32_kernel(Attention op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int tile = blockIdx.x;
  if (tile >= *op.tile_rows.count) return;
  const AttentionRows rows(op, tile, blockIdx.y % op.cache.kv_heads);
  const int row = static_cast<int>(blockIdx.y) / op.cache.kv_heads * kF32Warps + threadIdx.x / 32;
  const int keys = rows.keys(row), dim = op.cache.head_dim;
  if (op.splits > 0) {
    const int split = blockIdx.z;
    if (split * kKeySplit < keys) attend_split(rows, rows.q(row), split, keys).store(rows.partial(row, split), dim);
  } else if (keys > 0) {
    RowSoftmax total = attend_split(rows, rows.q(row), 0, keys);
    for (int split = 1; split * kKeySplit < keys; ++split) total.add(attend_split(rows, rows.q(row), split, keys));
    total.write(rows.out(row), dim);
  }
}

}  // namespace cria::cuda
