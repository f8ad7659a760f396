// Collectives of a warp that CUDA C++ names: shuffles, votes, reductions, __syncwarp; and __syncthreads.
//
// A lane that reads from a lane outside the mask reads poison.
#pragma once

#include <cstdint>
#include <cstring>

#include "block.h"
#include "site.h"

namespace cria::cuda::emulation {

struct Shuffle {
  std::uint64_t value;
  int source;  // the lane read from
};
extern const Collective kShuffle;

template <class T>
T shuffle(std::uint32_t mask, T value, int source, Site site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2);
  Shuffle operands{0, source};
  std::memcpy(&operands.value, &value, sizeof value);
  collect(kShuffle, mask, &operands, site);
  std::memcpy(&value, &operands.value, sizeof value);
  return value;
}

inline int lane_index() { return self->thread.x % kWarpLanes; }

std::uint32_t ballot(std::uint32_t mask, bool predicate, Site site);
int reduce_add(std::uint32_t mask, int value, Site site);
int reduce_max(std::uint32_t mask, int value, Site site);
int reduce_min(std::uint32_t mask, int value, Site site);
unsigned reduce_max(std::uint32_t mask, unsigned value, Site site);
unsigned reduce_min(std::uint32_t mask, unsigned value, Site site);
unsigned reduce_or(std::uint32_t mask, unsigned value, Site site);
unsigned reduce_and(std::uint32_t mask, unsigned value, Site site);
void sync_warp(std::uint32_t mask, Site site);

}  // namespace cria::cuda::emulation

// A segment of `width` lanes, a power of two, shuffles within itself; a source outside it is the lane itself.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  const int lane = cria::cuda::emulation::lane_index();
  return cria::cuda::emulation::shuffle(mask, value, (lane & -width) + (source & (width - 1)), site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  const int lane = cria::cuda::emulation::lane_index();
  const int source = lane ^ bits;
  return cria::cuda::emulation::shuffle(mask, value, source < (lane & -width) + width ? source : lane, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  const int lane = cria::cuda::emulation::lane_index();
  const int source = lane + static_cast<int>(delta);
  return cria::cuda::emulation::shuffle(mask, value, source < (lane & -width) + width ? source : lane, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  const int lane = cria::cuda::emulation::lane_index();
  const int source = lane - static_cast<int>(delta);
  return cria::cuda::emulation::shuffle(mask, value, source >= (lane & -width) ? source : lane, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::ballot(mask, predicate != 0, site);
}
inline int __any_sync(unsigned mask, int predicate,
                      cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::ballot(mask, predicate != 0, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::ballot(mask, predicate != 0, site) == mask;
}
inline int __reduce_add_sync(unsigned mask, int value,
                             cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_add(mask, value, site);
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                  cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return static_cast<unsigned>(cria::cuda::emulation::reduce_add(mask, static_cast<int>(value), site));
}
inline int __reduce_max_sync(unsigned mask, int value,
                             cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_max(mask, value, site);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                  cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_max(mask, value, site);
}
inline int __reduce_min_sync(unsigned mask, int value,
                             cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_min(mask, value, site);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value,
                                  cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_min(mask, value, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_or(mask, value, site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value,
                                  cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  return cria::cuda::emulation::reduce_and(mask, value, site);
}
inline void __syncwarp(unsigned mask = 0xffffffff,
                       cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  cria::cuda::emulation::sync_warp(mask, site);
}
inline void __syncthreads(cria::cuda::emulation::Site site = cria::cuda::emulation::Site::here()) {
  cria::cuda::emulation::block_barrier(site);
}
