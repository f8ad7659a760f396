// What counts is the time of one row, for decode has one to 64 of them: a row of 4,096 is 16 KiB, which one
// multiprocessor reads from L2 in some 260 cycles, but quantising it takes 5,000 instructions of a warp, over 1,000
// cycles. So a few rows are cut in parts of 1,024 columns. Each part's threads add up the whole row, which is cheaper
// than to hand the sum round, and then normalise and quantise their part alone, one four of columns to a thread: 1,024
// threads in all at dim 4096, 2,048 at 8192. Many rows are not cut: a block of threads goes over the row in steps.
//
// The sum: thread t of 256 takes the fours t, t + 256, ... in ascending order, in one chain for each of the four
// columns; its chains are added in pairs, then the lanes of a warp, then the warps (reduce.cuh).
//
// The row is read twice, the second time from L1 (8,192 columns are 32 KiB); a thread's first four of it and of the
// weight are on their way before the sum begins.
#include "four.cuh"
#include "launch.cuh"
#include "quantize.cuh"
#include "rmsnorm.h"

namespace cria::cuda {
namespace {

constexpr int kWarps = kFourThreads / 32;

struct Shared {
  float warp_sum[kWarps];
};

__device__ float sum_of_squares(const float* x, int dim, Shared& shared) {
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 4
  for (int column = 4 * threadIdx.x; column < dim; column += kFourColumns) {
    const float4 four = load_four(x, column, dim);
    sum.x = fmaf(four.x, four.x, sum.x);
    sum.y = fmaf(four.y, four.y, sum.y);
    sum.z = fmaf(four.z, four.z, sum.z);
    sum.w = fmaf(four.w, four.w, sum.w);
  }
  return block_reduce_add((sum.x + sum.y) + (sum.z + sum.w), shared.warp_sum);
}

__device__ float4 normalised(float4 x, float scale, float4 weight) {
  return make_float4(x.x * scale * weight.x, x.y * scale * weight.y, x.z * scale * weight.z, x.w * scale * weight.w);
}

__global__ void __launch_bounds__(kFourThreads) rmsnorm_kernel(RmsNorm op) {
  int column = four_column();
  float4 weight = load_four(op.weight, column, op.dim);  // the same for every row, and no kernel's result
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x;
  if (row >= *op.rows.count) return;
  const float* x = row_of(op.x, row, op.dim);
  float4 four = load_four(x, column, op.dim);

  const float mean = sum_of_squares(x, op.dim, shared_memory<Shared>()) / op.dim;
  const float scale = 1.0f / sqrtf(mean + op.eps);

  // A warp goes on together, for quantising takes all its lanes: to the end of its last superblock.
  const int columns = quant_columns(op.dim), step = gridDim.y * kFourColumns, lane_column = 4 * (threadIdx.x % 32);
  while (column - lane_column < columns) {
    const float4 y = normalised(four, scale, weight);
    const int next = column + step;
    four = load_four(x, next, op.dim);
    weight = load_four(op.weight, next, op.dim);
    if (op.out != nullptr) store_four(row_of(op.out, row, op.dim), column, op.dim, y);
    if (op.quants.quants != nullptr) {
      const QuantFour quants = quantize_four(y);
      if (column < columns) store_quants(op.quants, row, column, quants);
    }
    column = next;
  }
}

// The parts of a row. They pay as long as each finds a multiprocessor of its own: A100 has 108, H200 132. In place
// there is one part alone, for the others would still be reading what it writes.
unsigned row_parts(const RmsNorm& op) {
  const dim3 cut = four_grid(op.rows.capacity, op.dim);
  return op.out == op.x || cut.x * cut.y > 128 ? 1 : cut.y;
}

}  // namespace

Status rmsnorm(const RmsNorm& op, Stream stream) {
  const dim3 grid(op.rows.capacity, row_parts(op));
  return launch(rmsnorm_kernel, grid, kFourThreads, sizeof(Shared), stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
