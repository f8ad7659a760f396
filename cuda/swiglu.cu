// Bound by memory: 8 bytes are read for 4 written, in whose time H200 issues some 80 instructions; an output takes
// about half as many.
#include "four.cuh"
#include "launch.cuh"
#include "silu.cuh"
#include "swiglu.h"

namespace cria::cuda {
namespace {

__global__ void __launch_bounds__(kFourThreads) swiglu_kernel(SwiGlu op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x, column = four_column();
  if (row >= *op.rows.count) return;
  const float* gates = row_of(op.gate_up, row, 2 * op.dim);
  const float4 gate = load_four(gates, column, op.dim);
  const float4 up = load_four(gates + op.dim, column, op.dim);
  store_four(row_of(op.out, row, op.dim), column, op.dim,
             make_float4(silu(gate.x) * up.x, silu(gate.y) * up.y, silu(gate.z) * up.z, silu(gate.w) * up.w));
}

}  // namespace

Status swiglu(const SwiGlu& op, Stream stream) {
  return launch(swiglu_kernel, four_grid(op.rows.capacity, op.dim), kFourThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
