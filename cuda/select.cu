#include "four.cuh"
#include "launch.cuh"
#include "select.h"

namespace cria::cuda {
namespace {

__global__ void __launch_bounds__(kFourThreads) select_kernel(Select op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x, column = four_column();
  if (row >= *op.rows.count) return;
  const float4 x = load_four(row_of(op.x, op.chosen[row], op.dim), column, op.dim);
  store_four(row_of(op.out, row, op.dim), column, op.dim, x);
}

}  // namespace

Status select(const Select& op, Stream stream) {
  return launch(select_kernel, four_grid(op.rows.capacity, op.dim), kFourThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
