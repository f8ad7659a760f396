// Quantised weights from a lane's 16 bytes (csrc/cuda/pack.h) to the registers of mma.m16n8k32's operand A, and its
// exact integer sums to floats. Of lane (g, t):
//
//     a[0]   row g       columns 4t ... 4t + 3 of a block, as int8      a[2]   row g       columns 16 + 4t ...
//     a[1]   row g + 8   the same                                       a[3]   row g + 8   the same
#pragma once

#include <cstring>

#include "cuda.cuh"
#include "quant_rows.h"

namespace cria::cuda {

// A conversion from int32 is issued at a quarter of the rate of an addition, or less. So integer sums start at the bits
// of a float, 1.5 * 2^n, whose last place is worth what 1 is in the sum: read as a float, a sum s is 1.5 * 2^n + s, and
// subtracting is exact. The largest |s| is 32 * 128 * 127 (in q4_0 32 * 16 * 8 * 127 as well) = 520,192 < 2^22 places.
//
// A Format has kLoads, the 16 bytes that a lane loads of 16 rows by 64 columns; kSumStart and kSumZero, the bits where
// sums start and the float that they are; operand_a, a block's registers.

// Nibbles in the upper half of their bytes are the quants times 16, signs and all: 3 instructions for 8 weights, where
// sign extension would take 7. So are the sums, and the float where they start makes up for it: its last place is 1/16.
// (A scale of 1/16 would not: the scales' product may be subnormal, and then be rounded where this one is not.)
struct Q4 {
  static constexpr int kLoads = 1;
  static constexpr int kSumStart = 0x49400000;
  static constexpr float kSumZero = 786432.0f;  // 1.5 * 2^19

  static __device__ __forceinline__ void operand_a(const uint4 (&loads)[kLoads], int block, std::uint32_t (&a)[4]) {
    constexpr std::uint32_t kHigh = 0xf0f0f0f0;
    const std::uint32_t row = block == 0 ? loads[0].x : loads[0].z, row_8 = block == 0 ? loads[0].y : loads[0].w;
    a[0] = row << 4 & kHigh;
    a[1] = row_8 << 4 & kHigh;
    a[2] = row & kHigh;
    a[3] = row_8 & kHigh;
  }
};

struct Q8 {
  static constexpr int kLoads = 2;
  static constexpr int kSumStart = 0x4b400000;
  static constexpr float kSumZero = 12582912.0f;  // 1.5 * 2^23

  static __device__ __forceinline__ void operand_a(const uint4 (&loads)[kLoads], int block, std::uint32_t (&a)[4]) {
    const uint4& load = loads[block];
    a[0] = load.x;
    a[1] = load.y;
    a[2] = load.z;
    a[3] = load.w;
  }
};

// Bytes of a tile's superblock, 16 rows by 64 columns: quants, scales.
template <class Format>
constexpr int kTileBytes = Format::kLoads * 512;
constexpr int kTileScales = 16 * kSuperblock / kQuantBlock;

template <class Format>
__device__ __forceinline__ float sum_to_float(int sum) {
  return __int_as_float(sum) - Format::kSumZero;
}

// A row's two scales in a superblock, as two binary16 stand in a word.
__device__ __forceinline__ float2 weight_scales(std::uint32_t scales) {
  __half2 halves;
  memcpy(&halves, &scales, sizeof halves);
  return __half22float2(halves);
}

}  // namespace cria::cuda
