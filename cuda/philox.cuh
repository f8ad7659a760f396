// Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"): 128 random bits
// of a counter of 128 bits and a key of 64, by ten rounds of two multiplications. No state is kept, so a draw depends
// on what it is for, not on those before it.
#pragma once

#include <cstdint>

#include "cuda.cuh"

namespace cria::cuda {

__device__ inline uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t x = static_cast<std::uint64_t>(counter.x) * 0xd2511f53u;
    const std::uint64_t z = static_cast<std::uint64_t>(counter.z) * 0xcd9e8d57u;
    counter = make_uint4(static_cast<std::uint32_t>(z >> 32) ^ counter.y ^ key.x, static_cast<std::uint32_t>(z),
                         static_cast<std::uint32_t>(x >> 32) ^ counter.w ^ key.y, static_cast<std::uint32_t>(x));
    key = make_uint2(key.x + 0x9e3779b9u, key.y + 0xbb67ae85u);
  }
  return counter;
}

}  // namespace cria::cuda
