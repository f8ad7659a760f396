// Products with q8_0 weights for up to 16 tokens: matmul_q.cuh, over Q8 of matmul_formats.cuh.
#include "matmul_q.cuh"

namespace cria::cuda {

Status matmul_q8_few(const MatmulQ& op, Stream stream) { return matmul_q_few<Q8>(op, stream); }

}  // namespace cria::cuda
