#include "add.h"
#include "four.cuh"
#include "launch.cuh"

namespace cria::cuda {
namespace {

__global__ void __launch_bounds__(kFourThreads) add_kernel(Add op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x, column = four_column();
  if (row >= *op.rows.count) return;
  const float4 x = load_four(row_of(op.x, row, op.dim), column, op.dim);
  const float4 y = load_four(row_of(op.y, row, op.dim), column, op.dim);
  store_four(row_of(op.out, row, op.dim), column, op.dim, make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w));
}

}  // namespace

Status add(const Add& op, Stream stream) {
  return launch(add_kernel, four_grid(op.rows.capacity, op.dim), kFourThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
