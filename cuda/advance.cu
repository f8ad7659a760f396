// One block of threads for all rows, so that all of them have read the step before it is counted up.
#include "launch.cuh"
#include "sample.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) advance_kernel(Advance op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int rows = *op.rows.count, step = *op.step;
  for (int row = threadIdx.x; row < rows; row += kThreads) {
    const std::int32_t token = op.sampled[row];
    op.tokens[row] = token;
    op.positions[row] += 1;
    op.sequences[row].past += 1;
    op.history[static_cast<std::int64_t>(step) * op.rows.capacity + row] = token;
  }
  __syncthreads();
  if (threadIdx.x == 0) *op.step = step + 1;
}

}  // namespace

Status advance(const Advance& op, Stream stream) {
  return launch(advance_kernel, dim3(1), kThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
