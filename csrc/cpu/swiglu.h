// SwiGLU (Shazeer 2020, "GLU Variants Improve Transformer"), as LLaMA's FFN uses it:
//
//     out[t][c] = silu(gate[t][c]) * up[t][c],     silu as silu.h has it
//
// Gate and up are the two halves of one product's row. Bound by the polynomial and the division: on Zen 5 eleven cycles
// a register, of whatever width.
#pragma once

#include <cstddef>

namespace cria::cpu {

struct SwiGlu {
  const float* gate_up;  // [tokens][2 * dim]: gate, then up; tokens `x_stride` floats apart
  float* out;            // [tokens][dim], tokens `out_stride` floats apart; must not overlap gate_up
  std::size_t dim, x_stride, out_stride;
};

// Tokens [begin, end).
namespace scalar {
void swiglu(const SwiGlu&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void swiglu(const SwiGlu&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void swiglu(const SwiGlu&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
