#include "../swiglu.h"

#include <immintrin.h>

#include "../silu.h"

namespace cria::cpu::avx2 {
void swiglu(const SwiGlu& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / 8 * 8;

  for (std::size_t token = begin; token < end; ++token) {
    const float* gate = op.gate_up + token * op.x_stride;
    const float* up = gate + op.dim;
    float* out = op.out + token * op.out_stride;
    for (std::size_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, _mm256_mul_ps(silu(_mm256_loadu_ps(gate + c)), _mm256_loadu_ps(up + c)));
    }
    for (std::size_t c = whole; c < op.dim; ++c) out[c] = silu(gate[c]) * up[c];
  }
}

}  // namespace cria::cpu::avx2
