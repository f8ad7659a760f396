// Which kernel a product of many tokens runs: a choice of speed alone.
#include "device_attribute.cuh"
#include "matmul_gemm.cuh"

namespace cria::cuda {

Status matmul_q_gemm(const MatmulQ& op, Stream stream) {
  static const unsigned multiprocessors = device_attribute(cudaDevAttrMultiProcessorCount);
  static const bool hopper = device_attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
                             device_attribute(cudaDevAttrComputeCapabilityMinor) == 0;
  // Tiles of half the size, where each of them finds a multiprocessor of its own: else they only read more.
  const bool wide = op.rows.capacity > 64 && 2 * gemm_row_blocks(op) * gemm_token_blocks(op, 128) > multiprocessors;
  const bool k_quant = op.weights.type != CRIA_TYPE_Q4_0 && op.weights.type != CRIA_TYPE_Q8_0;
  if (wide && hopper && !k_quant && op.x.capacity % 4 == 0) return matmul_q_gemm_sm90(op, stream);
  return matmul_q_gemm_sm80(op, wide, stream);
}

}  // namespace cria::cuda
