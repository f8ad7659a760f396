// Products with q4_K weights for up to 16 tokens: matmul_q.cuh, over Q4K of matmul_formats.cuh.
#include "matmul_q.cuh"

namespace cria::cuda {

Status matmul_q4_k_few(const MatmulQ& op, Stream stream) { return matmul_q_few<Q4K>(op, stream); }

}  // namespace cria::cuda
