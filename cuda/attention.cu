// Causal attention (attention.h): which kernel a cache and a batch get, and the merge of splits computed apart.
#include <algorithm>

#include "attention.h"
#include "attention_f32.cuh"
#include "attention_mma.cuh"
#include "device_attribute.cuh"
#include "launch.cuh"
#include "quantize.cuh"

namespace cria::cuda {
namespace {

constexpr int kMergeWarps = 4;

// Quantises a head's columns of a row that was written. Of each block of 32 a lane has one column and quantize_four
// wants four, so eight lanes take the block, and the other lanes do the same: at 128 dimensions some 200 instructions
// of a warp, where the launch that they save is 2,000 cycles.
__device__ void quantize_row(const QuantRows& out, int token, int head_column, int head_dim, const RowSoftmax& row) {
  const int lane = threadIdx.x % 32, column = lane % 8 * 4;
#pragma unroll
  for (int i = 0; i < kLaneColumns; ++i) {
    if (i * kQuantBlock >= head_dim) break;
    const auto at = [&](int of) { return __shfl_sync(kAllLanes, row.o[i], of); };
    const QuantFour four = quantize_four({at(column), at(column + 1), at(column + 2), at(column + 3)});
    if (lane < 8) store_quants(out, token, head_column + i * kQuantBlock + column, four);
  }
}

// A warp a row of out. Bound by launch: at 8k keys it reads 16 partials of 520 bytes a head.
__global__ void __launch_bounds__(32 * kMergeWarps) attention_merge_kernel(Attention op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int tile = blockIdx.x;
  if (tile >= *op.tile_rows.count) return;
  const int row = blockIdx.z * kMergeWarps + threadIdx.x / 32;
  const AttentionRows rows(op, tile, blockIdx.y);
  const int keys = rows.keys(row), dim = op.cache.head_dim;
  if (keys == 0) return;
  RowSoftmax total;
  total.load(rows.partial(row, 0), dim);
  for (int split = 1; split * kKeySplit < keys; ++split) {
    RowSoftmax next;
    next.load(rows.partial(row, split), dim);
    total.add(next);
  }
  total.write(rows.out(row), dim);
  if (op.quants.quants != nullptr) quantize_row(op.quants, rows.token(row), rows.head(row) * dim, dim, total);
}

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Rows of a tile at most, for one kv head.
int most_rows(const Attention& op) {
  const int group = op.heads / op.cache.kv_heads;
  return attention_queries(group, op.splits > 0) * group;
}

dim3 grid_of(const Attention& op, int rows) {
  return dim3(op.tile_rows.capacity, op.cache.kv_heads * ceil_div(most_rows(op), rows), op.splits > 0 ? op.splits : 1);
}

template <class S>
Status launch_shape(const Attention& op, Stream stream) {
  return launch(attention_mma_kernel<S>, grid_of(op, S::kRows), S::kThreads, sizeof(AttentionShared<S>), stream, op,
                Overlap::kYes);
}

// Whole, of 256 dimensions: 32 rows a block, whose tiles fill an SM's shared memory.
template <int kDim>
using Whole = AttentionShape<kDim, false, kDim == 256 ? 1 : 2, kDim == 256 ? 2 : 4, 1, kDim == 256 ? 1 : 2>;
template <int kDim>
using Split = AttentionShape<kDim, true, 1, 1, 4, kDim == 256 ? 1 : 3>;

template <int kDim>
Status launch_dim(const Attention& op, Stream stream) {
  return op.splits > 0 ? launch_shape<Split<kDim>>(op, stream) : launch_shape<Whole<kDim>>(op, stream);
}

// Whether a block of threads gets the shared memory that tiles of 256 dimensions take.
bool holds_widest() {
  static const std::size_t most = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  constexpr std::size_t kWhole = sizeof(AttentionShared<Whole<256>>), kSplit = sizeof(AttentionShared<Split<256>>);
  return std::max(kWhole, kSplit) <= most;  // both or neither: their bits are the same
}

}  // namespace

int attention_queries(int group, bool split) { return attention_group_queries(group, split); }

Status attention(const Attention& op, Stream stream) {
  const bool f32 = op.cache.k.type == CRIA_TYPE_F32 || op.cache.v.type == CRIA_TYPE_F32;
  if (f32 || (op.cache.head_dim > 128 && !holds_widest())) {
    return launch(attention_f32_kernel, grid_of(op, kF32Warps), 32 * kF32Warps, /*shared=*/0, stream, op,
                  Overlap::kYes);
  }
  if (op.cache.head_dim <= 64) return launch_dim<64>(op, stream);
  if (op.cache.head_dim <= 128) return launch_dim<128>(op, stream);
  return launch_dim<256>(op, stream);
}

Status attention_merge(const Attention& op, Stream stream) {
  const dim3 grid(op.tile_rows.capacity, op.cache.kv_heads, ceil_div(most_rows(op), kMergeWarps));
  return launch(attention_merge_kernel, grid, 32 * kMergeWarps, /*shared=*/0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
