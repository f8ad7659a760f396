// Sums and maxima over the lanes of a warp and the warps of a block, in an order that depends on their number alone.
//
// A butterfly adds, at distances width/2, ..., 2, 1, each lane's value to its partner's. Both partners add the same two
// numbers, so all lanes of a group end with the same bits. Of 16 lanes it is the tree of csrc/cpu/reduce.h.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda.cuh"

namespace cria::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// Over each group of kWidth neighbouring lanes (a power of two); every lane of the warp takes part. Integers of a whole
// warp take one instruction.
template <int kWidth = 32, class T>
__device__ inline T warp_reduce_add(T value) {
  if constexpr (std::is_integral_v<T> && kWidth == 32) {
    return __reduce_add_sync(kAllLanes, value);
  } else {
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(kAllLanes, value, distance);
    return value;
  }
}

// NaN is passed over, as fmaxf passes it over.
template <int kWidth = 32>
__device__ inline float warp_reduce_max(float value) {
#pragma unroll
  for (int distance = kWidth / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

template <int kWidth = 32>
__device__ inline std::uint32_t warp_reduce_max(std::uint32_t value) {
  if constexpr (kWidth == 32) {
    return __reduce_max_sync(kAllLanes, value);
  } else {
#pragma unroll
    for (int distance = kWidth / 2; distance > 0; distance /= 2) {
      value = max(value, __shfl_xor_sync(kAllLanes, value, distance));
    }
    return value;
  }
}

// Over a block of kWarps warps (a power of two): a warp's lanes, then the warps' sums, which pass through shared
// memory. Every thread gets the sum; every warp adds the warps' sums itself, which is cheaper than a second barrier to
// hand one warp's result round. `warp_sum` must not be written again before another barrier.
template <int kWarps, class T>
__device__ inline T block_reduce_add(T value, T (&warp_sum)[kWarps]) {
  static_assert(kWarps <= 32 && (kWarps & (kWarps - 1)) == 0);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  value = warp_reduce_add(value);
  if (lane == 0) warp_sum[warp] = value;
  __syncthreads();
  return warp_reduce_add<kWarps>(warp_sum[lane % kWarps]);
}

}  // namespace cria::cuda
