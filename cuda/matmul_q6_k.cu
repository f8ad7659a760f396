// Products with q6_K weights for up to 16 tokens: matmul_q.cuh, over Q6K of matmul_formats.cuh.
#include "matmul_q.cuh"

namespace cria::cuda {

Status matmul_q6_k_few(const MatmulQ& op, Stream stream) { return matmul_q_few<Q6K>(op, stream); }

}  // namespace cria::cuda
