// Which kernel a product of many tokens runs: a choice of speed alone.
#include "matmul_gemm.cuh"

namespace cria::cuda {

// Of the first device that the process is shown, which is the plugin's; 0 where it does not say.
static int attribute(cudaDeviceAttr name) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, name, 0) == cudaSuccess ? value : 0;
}

Status matmul_q_gemm(const MatmulQ& op, Stream stream) {
  static const unsigned multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  static const bool hopper =
      attribute(cudaDevAttrComputeCapabilityMajor) == 9 && attribute(cudaDevAttrComputeCapabilityMinor) == 0;
  // Tiles of half the size, where each of them finds a multiprocessor of its own: else they only read more.
  const bool wide = op.rows.capacity > 64 && 2 * gemm_row_blocks(op) * gemm_token_blocks(op, 128) > multiprocessors;
  if (wide && hopper && op.x.capacity % 4 == 0) return matmul_q_gemm_sm90(op, stream);
  return matmul_q_gemm_sm80(op, wide, stream);
}

}  // namespace cria::cuda
