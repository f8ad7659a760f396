#include "../swiglu.h"

#include "../silu.h"

namespace cria::cpu::scalar {

void swiglu(const SwiGlu& op, std::size_t begin, std::size_t end) {
  for (std::size_t token = begin; token < end; ++token) {
    const float* gate = op.gate_up + token * op.x_stride;
    const float* up = gate + op.dim;
    float* out = op.out + token * op.out_stride;
    for (std::size_t c = 0; c < op.dim; ++c) out[c] = silu(gate[c]) * up[c];
  }
}

}  // namespace cria::cpu::scalar
