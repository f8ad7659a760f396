// Blocks of 32 columns are numbered as their scales lie, [block][row], and eight lanes take one each. So the loads of
// eight lanes are one line of x; the warps' four blocks are of four rows, whose chunks are two stores of 64 contiguous
// bytes; and where there is one row, they are its next four blocks, one store of 128.
//
// Bound by its instructions: some 200 for the 656 bytes that a warp reads and writes, 50 cycles of a multiprocessor,
// where memory would take 35.
#include "four.cuh"
#include "launch.cuh"
#include "quantize.cuh"
#include "quantize.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kThreadBlocks = kThreads / 8;  // quant blocks that a block of threads takes

__global__ void __launch_bounds__(kThreads) quantize_kernel(Quantize op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const unsigned rows = *op.rows.count, total = rows * (quant_columns(op.dim) / kQuantBlock);
  const unsigned first = blockIdx.x * kThreadBlocks;
  if (first >= total) return;

  const unsigned place = first + threadIdx.x / 8;
  const int row = place % rows, column = place / rows * kQuantBlock + threadIdx.x % 8 * 4;
  // A place past the end has a column past the row's, and loads zeros.
  const QuantFour four = quantize_four(load_four(row_of(op.x, row, op.dim), column, op.dim));
  if (place < total) store_quants(op.out, row, column, four);
}

}  // namespace

Status quantize(const Quantize& op, Stream stream) {
  const std::size_t blocks = superblocks(op.dim) * (kSuperblock / kQuantBlock) * op.rows.capacity;
  const dim3 grid(static_cast<unsigned>((blocks + kThreadBlocks - 1) / kThreadBlocks));
  return launch(quantize_kernel, grid, kThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
