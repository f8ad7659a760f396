// What ptx.cuh has of one lane's loads and arithmetic.
#pragma once

#include <cmath>

#include "access.h"
#include "intrinsics.h"

namespace cria::cuda::emulation {

inline uint4 load_16(const void* global, Site site = Site::here()) {
  check_global(global, 16, 16, "a 16-byte load", site);
  return *static_cast<const uint4*>(global);
}
inline uint4 load_stream_16(const void* global, Site site = Site::here()) { return load_16(global, site); }

inline std::uint32_t and_xor(std::uint32_t a, std::uint32_t mask, std::uint32_t flip) { return (a & mask) ^ flip; }
inline int dp4a(int a, int b, int c) { return __dp4a(a, b, c); }
inline float exp2_approx(float x) { return std::exp2(x); }

// Kernels of a stream follow one another: there is nothing to wait for, but it is noted who does.
inline void grid_dependency_wait() { self->waited_for_grid = true; }
inline void grid_dependency_launch() {}

}  // namespace cria::cuda::emulation
