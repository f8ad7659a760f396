// silu(g) = g / (1 + exp(-g)): csrc/cpu/silu.h's formula, and its bits.
#pragma once

#include "exp.cuh"

namespace cria::cuda {

__device__ inline float silu(float g) { return g / (1.0f + exp_f32(-g)); }

}  // namespace cria::cuda
