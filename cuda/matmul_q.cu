// Which kernel a product with quantised weights runs: a choice of speed alone.
#include "matmul_gemm.cuh"

namespace cria::cuda {

Status matmul_q4_few(const MatmulQ&, Stream);
Status matmul_q8_few(const MatmulQ&, Stream);

Status matmul_q(const MatmulQ& op, Stream stream) {
  if (op.rows.capacity > 16) return matmul_q_gemm(op, stream);
  return op.weights.type == CRIA_TYPE_Q4_0 ? matmul_q4_few(op, stream) : matmul_q8_few(op, stream);
}

}  // namespace cria::cuda
