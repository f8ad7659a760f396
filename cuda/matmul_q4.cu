// Products with q4_0 weights for up to 16 tokens: matmul_q.cuh, over Q4 of matmul_formats.cuh.
#include "matmul_q.cuh"

namespace cria::cuda {

Status matmul_q4_few(const MatmulQ& op, Stream stream) { return matmul_q_few<Q4>(op, stream); }

}  // namespace cria::cuda
