// wgmma: a product of 64 rows, 16 in each of four warps, with B from shared memory, that runs beside the lanes.
//
// It reads B, through the async proxy, as late as it may: at the warp's wait. Until then its accumulators are poison.
//
//     B[128][32 bytes] without swizzle, K-major: core matrices of 8 rows (of N) by 16 bytes (of K), each 128 bytes
//     in one piece; the next along K is `leading` bytes further, the next along N `stride` bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "site.h"

namespace cria::cuda::emulation {

using WgmmaSums = std::array<std::uint32_t, 64>;  // int32, or binary32

/// Accumulators in flight: where the lane's registers are, and what they will hold.
struct WgmmaAccumulators {
  void* registers;
  WgmmaSums sums;
  int uses;  // products that have not run
};

struct WgmmaProduct {
  WgmmaAccumulators* sums;
  std::array<std::uint32_t, 4> a;
  std::uint64_t b;  // descriptor
  bool accumulate, f16;
  Site site;
};

/// A lane's part of its warp's products, oldest first; those of committed groups end at `committed`.
struct LaneWgmma {
  std::vector<WgmmaProduct> pending;
  std::vector<std::size_t> committed;
  std::vector<std::unique_ptr<WgmmaAccumulators>> accumulators;
  bool fenced = false;        // wgmma_fence came after the last commit
  std::uint64_t history = 0;  // a hash of all products and setmaxnregs, equal in the four warps
  bool in_flight() const { return !pending.empty(); }
  void clear();
};

std::uint64_t smem_descriptor(const void* shared, int leading_bytes, int stride_bytes, Site site = Site::here());
inline std::uint64_t descriptor_at(std::uint64_t descriptor, std::uint32_t bytes) { return descriptor + (bytes >> 4); }
void wgmma_fence(Site site = Site::here());
void wgmma_commit(Site site = Site::here());
void wgmma_wait_groups(int newest, Site site);
template <int kNewest>
void wgmma_wait(Site site = Site::here()) {
  wgmma_wait_groups(kNewest, site);
}
void wgmma_s8_n128(int (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b_descriptor, bool accumulate,
                   Site site = Site::here());

void wgmma_f16_n128(float (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b_descriptor, bool accumulate,
                    Site site = Site::here());
template <int kNewest>
void wgmma_wait(float (&)[64], Site site = Site::here()) {
  wgmma_wait_groups(kNewest, site);
}

void check_setmaxnreg(int registers, Site site);
template <int kRegisters>
void setmaxnreg_inc(Site site = Site::here()) {
  check_setmaxnreg(kRegisters, site);
}
template <int kRegisters>
void setmaxnreg_dec(Site site = Site::here()) {
  check_setmaxnreg(kRegisters, site);
}

}  // namespace cria::cuda::emulation
