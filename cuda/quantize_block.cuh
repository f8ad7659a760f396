// A group of 32 floats, one a lane of a warp, to int8: csrc/cpu/quantize_block.h's formula, and its bits.
#pragma once

#include "cuda.cuh"
#include "reduce.cuh"

namespace cria::cuda {

struct QuantLane {
  std::int8_t quant;
  float scale;  // of the group, in every lane: max |x| / 127, 0 or NaN as csrc/cpu/quantize.h's block_scale
};

// Every lane of the warp takes part.
__device__ inline QuantLane quantize_lane(float x) {
  // As integers: NaN is then above every number, where fmaxf would pass it over.
  const std::uint32_t largest_bits = __reduce_max_sync(kAllLanes, __float_as_uint(x) & 0x7fffffff);
  if (largest_bits >= 0x7f800000) return {0, __uint_as_float(0x7fc00000)};  // an infinity or NaN
  const float largest = __uint_as_float(largest_bits);
  if (largest < 0x1p-119f) return {0, 0.0f};
  return {static_cast<std::int8_t>(__float2int_rn(x * (127.0f / largest))), largest / 127.0f};
}

}  // namespace cria::cuda
