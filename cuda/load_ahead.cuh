// A warp's way through a matrix that it reads once: loads are issued some units before their use, into a ring of
// registers, so that a warp has as many bytes in flight as the ring holds, and waits for no other warp.
//
//     Slot ring[kAhead];
//     load_first(ring, begin, end, load_weights);   before the kernel waits for the one before it (launch.cuh)
//     load_first(ring, begin, end, load_x);         when it has waited
//     load_ahead(ring, begin, end, load, use);      load: both
#pragma once

#include "cuda.cuh"

namespace cria::cuda {

// Calls load(unit, slot) for the ring's first units.
template <int kAhead, class Slot, class Load>
__device__ __forceinline__ void load_first(Slot (&ring)[kAhead], int begin, int end, const Load& load) {
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (begin + i < end) load(begin + i, ring[i]);
  }
}

// Calls use(slot) for units [begin, end) in order, each loaded by load(unit, slot) kAhead units before, but those that
// the ring begins with. All lanes of a warp have the same units.
template <int kAhead, class Slot, class Load, class Use>
__device__ __forceinline__ void load_ahead(Slot (&ring)[kAhead], int begin, int end, const Load& load, const Use& use) {
  for (int first = begin; first < end; first += kAhead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {  // unrolled, a slot's place is known and the ring is registers
      if (first + i >= end) break;
      use(ring[i]);
      if (first + i + kAhead < end) load(first + i + kAhead, ring[i]);
    }
  }
}

}  // namespace cria::cuda
