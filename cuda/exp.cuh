// exp on the device, in the CPU's bits: the polynomial of csrc/cpu/exp.h, step for step. It stands where results must
// be the CPU's (silu); attention's softmax, whose result is its own, takes the hardware's ex2 instead.
//
// Like every bit-for-bit promise of this folder it holds under nvcc's --fmad=false and without --use_fast_math: only
// the multiply-adds that are written are fused, subnormals are kept, division and square root are IEEE's.
#pragma once

#include <cstdint>

#include "cuda.cuh"

namespace cria::cuda {

// csrc/cpu/exp.h argues each.
constexpr float kExpLow = -87.0f, kExpHigh = 88.0f;
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;
constexpr float kRound = 0x1.8p+23f;

__device__ inline float exp_f32(float x) {
  x = kExpLow > x ? kExpLow : x;  // not fmaxf and fminf, which would turn NaN into a number
  x = kExpHigh < x ? kExpHigh : x;
  const float shifted = fmaf(x, kLog2E, kRound);
  const float n = shifted - kRound;
  float r = fmaf(n, -kLn2High, x);
  r = fmaf(n, -kLn2Low, r);
  float q = fmaf(1.9875691500e-4f, r, 1.3981999507e-3f);
  q = fmaf(q, r, 8.3334519073e-3f);
  q = fmaf(q, r, 4.1665795894e-2f);
  q = fmaf(q, r, 1.6666665459e-1f);
  q = fmaf(q, r, 5.0000001201e-1f);
  const float p = fmaf(q, r * r, r) + 1.0f;
  const std::uint32_t power = (__float_as_uint(shifted) + 127u) << 23;
  return p * __uint_as_float(power);
}

}  // namespace cria::cuda
