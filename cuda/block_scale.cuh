// What the largest magnitude of a block of activations makes of it: csrc/cpu/quantize.h's block_scale, and its bits.
#pragma once

#include <cstdint>

#include "cuda.cuh"

namespace cria::cuda {

struct BlockScale {
  float scale;    // max |x| / 127
  float inverse;  // 127 / max |x|; 0 where every q is
};

// |x| as bits, which order as integers, with infinity and NaN above every number.
__device__ inline std::uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7fffffff; }

__device__ inline BlockScale block_scale(std::uint32_t largest_bits) {
  constexpr std::uint32_t kInfinity = 0x7f800000, kNan = 0x7fc00000;
  if (largest_bits >= kInfinity) return {__uint_as_float(kNan), 0.0f};
  const float largest = __uint_as_float(largest_bits);
  if (largest < 0x1p-119f) return {0.0f, 0.0f};
  return {largest / 127.0f, 127.0f / largest};
}

}  // namespace cria::cuda
