#include "../swiglu.h"

#include "../silu.h"
#include "tail.h"

namespace cria::cpu::avx512 {
void swiglu(const SwiGlu& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / kLanes * kLanes;
  const __mmask16 rest = first_lanes(op.dim - whole);

  for (std::size_t token = begin; token < end; ++token) {
    const float* gate = op.gate_up + token * op.x_stride;
    const float* up = gate + op.dim;
    float* out = op.out + token * op.out_stride;
    for (std::size_t c = 0; c < whole; c += kLanes) {
      _mm512_storeu_ps(out + c, _mm512_mul_ps(silu(_mm512_loadu_ps(gate + c)), _mm512_loadu_ps(up + c)));
    }
    const __m512 last = silu(_mm512_maskz_loadu_ps(rest, gate + whole));
    _mm512_mask_storeu_ps(out + whole, rest, _mm512_mul_ps(last, _mm512_maskz_loadu_ps(rest, up + whole)));
  }
}

}  // namespace cria::cpu::avx512
