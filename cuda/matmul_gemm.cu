// Which kernel a product of many tokens runs: a choice of speed alone.
#include "matmul_gemm.cuh"

namespace cria::cuda {

// Of the first device that the process is shown, which is the plugin's.
static unsigned multiprocessors() {
  static const unsigned count = [] {
    int value = 0;
    return cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0) == cudaSuccess ? value : 0;
  }();
  return count;
}

Status matmul_q_gemm(const MatmulQ& op, Stream stream) {
  // Half a tile is no slower where the whole ones would not go round.
  const bool wide = op.rows.capacity > 64 && gemm_row_blocks(op) * gemm_token_blocks(op, 128) >= multiprocessors();
  return matmul_q_gemm_sm80(op, wide, stream);
}

}  // namespace cria::cuda
