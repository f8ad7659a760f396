// A group of 32 floats, one a lane of a warp, to int8: csrc/cpu/quantize_block.h's formula, and its bits.
#pragma once

#include "block_scale.cuh"
#include "reduce.cuh"

namespace cria::cuda {

struct QuantLane {
  std::int8_t quant;
  float scale;  // of the group, in every lane
};

// Every lane of the warp takes part.
__device__ inline QuantLane quantize_lane(float x) {
  const BlockScale block = block_scale(warp_reduce_max(magnitude_bits(x)));
  // An infinity or NaN, times the inverse 0, is NaN, whose conversion is 0.
  return {static_cast<std::int8_t>(__float2int_rn(x * block.inverse)), block.scale};
}

}  // namespace cria::cuda
