// Rotations of RoPE, in csrc/cpu/rope.h's bits.
#pragma once

#include "cuda.cuh"

namespace cria::cuda {

// How the first rotary_dim dimensions of a head pair up: (2i, 2i + 1), or (i, i + rotary_dim / 2) with `halves`.
struct RopePairs {
  int rotary_dim;
  bool halves;

  __device__ int first(int pair) const { return halves ? pair : 2 * pair; }
  __device__ int second(int pair) const { return halves ? pair + rotary_dim / 2 : 2 * pair + 1; }
  __device__ int pair(int d) const { return halves ? d % (rotary_dim / 2) : d / 2; }
};

__device__ inline float2 rope_turn(float a, float b, float cosine, float sine) {
  return {fmaf(a, cosine, -(b * sine)), fmaf(a, sine, b * cosine)};
}

// Dimension d of a head, turned; at(d) is the head before. Dimensions from rotary_dim on are as they are.
template <class At>
__device__ inline float rope_turned(const RopePairs& pairs, int d, const float* cosine, const float* sine,
                                    const At& at) {
  if (d >= pairs.rotary_dim) return at(d);
  const int i = pairs.pair(d);
  const float2 turned = rope_turn(at(pairs.first(i)), at(pairs.second(i)), cosine[i], sine[i]);
  return d == pairs.first(i) ? turned.x : turned.y;
}

}  // namespace cria::cuda
