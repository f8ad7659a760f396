#include "../swiglu.h"

#include "../exp.h"

namespace cria::cpu::avx2 {
namespace {

__m256 silu(__m256 g) {
  const __m256 negative = _mm256_xor_ps(g, _mm256_set1_ps(-0.0f));
  return _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_f32(negative)));
}

}  // namespace

void swiglu(const SwiGlu& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / 8 * 8;

  for (std::size_t token = begin; token < end; ++token) {
    const float* gate = op.gate_up + token * op.x_stride;
    const float* up = gate + op.dim;
    float* out = op.out + token * op.out_stride;
    for (std::size_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, _mm256_mul_ps(silu(_mm256_loadu_ps(gate + c)), _mm256_loadu_ps(up + c)));
    }
    for (std::size_t c = whole; c < op.dim; ++c) out[c] = gate[c] / (1.0f + exp_f32(-gate[c])) * up[c];
  }
}

}  // namespace cria::cpu::avx2
