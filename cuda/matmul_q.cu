// Which kernel a product with quantised weights runs: a choice of speed alone.
#include "matmul_gemm.cuh"

namespace cria::cuda {

Status matmul_q4_few(const MatmulQ&, Stream);
Status matmul_q8_few(const MatmulQ&, Stream);
Status matmul_q4_k_few(const MatmulQ&, Stream);
Status matmul_q5_k_few(const MatmulQ&, Stream);
Status matmul_q6_k_few(const MatmulQ&, Stream);

Status matmul_q(const MatmulQ& op, Stream stream) {
  if (op.rows.capacity > 16) return matmul_q_gemm(op, stream);
  switch (op.weights.type) {
    case CRIA_TYPE_Q4_0:
      return matmul_q4_few(op, stream);
    case CRIA_TYPE_Q4_K:
      return matmul_q4_k_few(op, stream);
    case CRIA_TYPE_Q5_K:
      return matmul_q5_k_few(op, stream);
    case CRIA_TYPE_Q6_K:
      return matmul_q6_k_few(op, stream);
    default:
      return matmul_q8_few(op, stream);
  }
}

}  // namespace cria::cuda
