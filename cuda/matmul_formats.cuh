// Quantised weights from a lane's 16 bytes (csrc/cuda/pack.h) to the registers of mma.m16n8k32's operand A, and its
// exact integer sums to floats. Of lane (g, t):
//
//     a[0]   row g       columns 4t ... 4t + 3 of a block, as int8      a[2]   row g       columns 16 + 4t ...
//     a[1]   row g + 8   the same                                       a[3]   row g + 8   the same
#pragma once

#include <cstring>

#include "cuda.cuh"
#include "ptx.cuh"
#include "quant_rows.h"

namespace cria::cuda {

// A conversion from int32 is issued at a quarter of the rate of an addition, or less. So integer sums start at the bits
// of a float, 1.5 * 2^n, whose last place is worth what 1 is in the sum: read as a float, a sum s is 1.5 * 2^n + s, and
// subtracting is exact. The largest |s| is 32 * 128 * 127 (in q4_0 32 * 16 * 8 * 127 as well) = 520,192 < 2^22 places.
//
// A Format has
//     kTileBytes            bytes of a tile's superblock, 16 rows by 64 columns, without its scales
//     kAhead                superblocks that the GEMV of one token has under way (matmul_q.cuh)
//     kGroups               groups of columns with an integer scale of their own in a block of 32: none but in q6_K, 2
//     kMinimum              whether a quant stands for a multiple of the scale from a minimum on
//     kBases                whether scales are multiples of others, which stand once for 256 columns
//     kSumStart, kSumZero   the bits where sums start, and the float that they are
//     Quants, load          what a lane has of a superblock, from memory by one of the two Loads below
//     operand_a             a block's registers
//     scales                a row's BlockScales in block 0 or 1 of a superblock

// A row's scales in a superblock, as they stand in memory.
struct RowWords {
  std::uint32_t scales;  // two binary16, or four bytes
  std::uint32_t base;    // with kBases: two binary16
};

// The same of one of its blocks.
struct BlockScales {
  float scale;     // of the block's dot product
  float group[2];  // with kGroups 2: integers, of columns 0 ... 15 and 16 ... 31
  float minimum;   // with kMinimum
};

struct StreamLoads {
  static __device__ __forceinline__ uint4 sixteen(const std::uint8_t* from) { return load_stream_16(from); }
  template <class T>
  static __device__ __forceinline__ T some(const std::uint8_t* from) {
    return *reinterpret_cast<const T*>(from);
  }
};
struct SharedLoads {
  static __device__ __forceinline__ uint4 sixteen(const std::uint8_t* from) {
    return *reinterpret_cast<const uint4*>(from);
  }
  template <class T>
  static __device__ __forceinline__ T some(const std::uint8_t* from) {
    return *reinterpret_cast<const T*>(from);
  }
};

// Two binary16 that stand in a word.
__device__ __forceinline__ float2 two_halves(std::uint32_t word) {
  __half2 halves;
  memcpy(&halves, &word, sizeof halves);
  return __half22float2(halves);
}

// Byte i of a word. Under the bits of 2^23 it is that much more.
__device__ __forceinline__ float byte_float(std::uint32_t word, int i) {
  return __uint_as_float(0x4b000000u | (word >> 8 * i & 0xff)) - 8388608.0f;
}
// As a two's complement: with its sign bit turned it is 128 more.
__device__ __forceinline__ float signed_byte_float(std::uint32_t word, int i) {
  return __uint_as_float(0x4b000000u | ((word ^ 0x80808080u) >> 8 * i & 0xff)) - 8388736.0f;
}

// A scale of each block.
struct HalfScales {
  static constexpr int kGroups = 1;
  static constexpr bool kMinimum = false, kBases = false;

  static __device__ __forceinline__ BlockScales scales(RowWords row, int block) {
    const float2 both = two_halves(row.scales);
    return {block == 0 ? both.x : both.y, {1.0f, 1.0f}, 0.0f};
  }
};

// Of each block an integer scale, bytes 0 and 1, and an integer minimum, bytes 2 and 3, to be multiplied by the base's
// two; both products are exact, of 11 bits by 6. The minimum is subtracted.
struct ByteScales {
  static constexpr int kGroups = 1;
  static constexpr bool kMinimum = true, kBases = true;

  static __device__ __forceinline__ BlockScales scales(RowWords row, int block) {
    const float2 base = two_halves(row.base);
    return {base.x * byte_float(row.scales, block), {1.0f, 1.0f}, -(base.y * byte_float(row.scales, 2 + block))};
  }
};

// A lane's nibbles of a superblock, and nothing else.
struct Nibbles {
  static constexpr int kTileBytes = 512;

  struct Quants {
    uint4 nibbles;
  };
  template <class Loads>
  static __device__ __forceinline__ Quants load(const std::uint8_t* tile, int lane) {
    return {Loads::sixteen(tile + 16 * lane)};
  }
};

// Nibbles in the upper half of their bytes are the quants times 16, signs and all: 3 instructions for 8 weights, where
// sign extension would take 7. So are the sums, and the float where they start makes up for it: its last place is 1/16.
// (A scale of 1/16 would not: the scales' product may be subnormal, and then be rounded where this one is not.)
struct Q4 : HalfScales, Nibbles {
  static constexpr int kAhead = 6;
  static constexpr int kSumStart = 0x49400000;
  static constexpr float kSumZero = 786432.0f;  // 1.5 * 2^19

  static __device__ __forceinline__ void operand_a(const Quants& quants, int block, std::uint32_t (&a)[4]) {
    constexpr std::uint32_t kHigh = 0xf0f0f0f0;
    const uint4& nibbles = quants.nibbles;
    const std::uint32_t row = block == 0 ? nibbles.x : nibbles.z, row_8 = block == 0 ? nibbles.y : nibbles.w;
    a[0] = row << 4 & kHigh;
    a[1] = row_8 << 4 & kHigh;
    a[2] = row & kHigh;
    a[3] = row_8 & kHigh;
  }
};

// The sums of whole int8.
struct ByteSums {
  static constexpr int kSumStart = 0x4b400000;
  static constexpr float kSumZero = 12582912.0f;  // 1.5 * 2^23
};

struct Q8 : HalfScales, ByteSums {
  static constexpr int kTileBytes = 1024, kAhead = 3;

  struct Quants {
    uint4 blocks[2];
  };
  template <class Loads>
  static __device__ __forceinline__ Quants load(const std::uint8_t* tile, int lane) {
    return {{Loads::sixteen(tile + 16 * lane), Loads::sixteen(tile + 512 + 16 * lane)}};
  }

  static __device__ __forceinline__ void operand_a(const Quants& quants, int block, std::uint32_t (&a)[4]) {
    const uint4& load = quants.blocks[block];
    a[0] = load.x;
    a[1] = load.y;
    a[2] = load.z;
    a[3] = load.w;
  }
};

// The nibbles of a block as unsigned bytes, in the registers' order.
__device__ __forceinline__ void unsigned_nibbles(const uint4& nibbles, int block, std::uint32_t (&a)[4]) {
  constexpr std::uint32_t kLow = 0x0f0f0f0f;
  const std::uint32_t row = block == 0 ? nibbles.x : nibbles.z, row_8 = block == 0 ? nibbles.y : nibbles.w;
  a[0] = row & kLow;
  a[1] = row_8 & kLow;
  a[2] = row >> 4 & kLow;
  a[3] = row_8 >> 4 & kLow;
}

struct Q4K : ByteScales, ByteSums, Nibbles {
  static constexpr int kAhead = 4;

  static __device__ __forceinline__ void operand_a(const Quants& quants, int block, std::uint32_t (&a)[4]) {
    unsigned_nibbles(quants.nibbles, block, a);
  }
};

// The fifth bits of register i of block b are bits 4b + i of the four bytes of a word.
struct Q5K : ByteScales, ByteSums {
  static constexpr int kTileBytes = 640, kAhead = 4;

  struct Quants {
    uint4 nibbles;
    std::uint32_t fifths;
  };
  template <class Loads>
  static __device__ __forceinline__ Quants load(const std::uint8_t* tile, int lane) {
    return {Loads::sixteen(tile + 16 * lane), Loads::template some<std::uint32_t>(tile + 512 + 4 * lane)};
  }

  static __device__ __forceinline__ void operand_a(const Quants& quants, int block, std::uint32_t (&a)[4]) {
    unsigned_nibbles(quants.nibbles, block, a);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int bit = 4 * block + i;
      a[i] |= (bit < 4 ? quants.fifths << (4 - bit) : quants.fifths >> (bit - 4)) & 0x10101010u;
    }
  }
};

// The upper two bits of register i of block b are bits 2i and 2i + 1 of the four bytes of word b. Scales are of 16
// columns; their dot products, below 2^16, times an int8, and the sum of both are below 2^24, and so exact as floats.
struct Q6K : ByteSums {
  static constexpr int kTileBytes = 768, kAhead = 3;
  static constexpr int kGroups = 2;
  static constexpr bool kMinimum = false, kBases = true;

  struct Quants {
    uint4 nibbles;
    uint2 pairs;
  };
  template <class Loads>
  static __device__ __forceinline__ Quants load(const std::uint8_t* tile, int lane) {
    return {Loads::sixteen(tile + 16 * lane), Loads::template some<uint2>(tile + 512 + 8 * lane)};
  }

  static __device__ __forceinline__ void operand_a(const Quants& quants, int block, std::uint32_t (&a)[4]) {
    unsigned_nibbles(quants.nibbles, block, a);
    const std::uint32_t pairs = block == 0 ? quants.pairs.x : quants.pairs.y;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t upper = (i < 2 ? pairs << (4 - 2 * i) : pairs >> (2 * i - 4)) & 0x30303030u;
      // From 0 ... 63 to -32 ... 31: with 96 added, which no byte carries over, only the sign bit is wrong.
      a[i] = ((a[i] | upper) + 0x60606060u) ^ 0x80808080u;
    }
  }

  static __device__ __forceinline__ BlockScales scales(RowWords row, int block) {
    return {two_halves(row.base).x,
            {signed_byte_float(row.scales, 2 * block), signed_byte_float(row.scales, 2 * block + 1)},
            0.0f};
  }
};

// binary16s of a tile's superblock, 16 rows by two blocks, and of a matrix's tile, whose bases stand behind.
constexpr int kTileScales = 16 * kSuperblock / kQuantBlock;
constexpr int kBaseSuperblocks = 4;  // that share a base

template <class Format>
__device__ __forceinline__ std::size_t tile_scales(std::size_t superblocks) {
  return (superblocks + (Format::kBases ? superblocks / kBaseSuperblocks : 0)) * kTileScales;
}

template <class Format>
__device__ __forceinline__ float sum_to_float(int sum) {
  return __int_as_float(sum) - Format::kSumZero;
}

// The dot product of a block, exact, from those of its groups.
template <class Format>
__device__ __forceinline__ float block_dot(const float (&dots)[Format::kGroups], const BlockScales& weight) {
  if constexpr (Format::kGroups == 1) return dots[0];
  return fmaf(dots[Format::kGroups - 1], weight.group[1], dots[0] * weight.group[0]);
}

// One step of matmul.h's formula. x_sum: the activations' sum times their scale, with kMinimum.
template <class Format>
__device__ __forceinline__ void add_block(float& sum, float dot, const BlockScales& weight, float x_scale,
                                          float x_sum) {
  sum = fmaf(dot, weight.scale * x_scale, sum);
  if constexpr (Format::kMinimum) sum = fmaf(weight.minimum, x_sum, sum);
}

// Four int8 of 1: what a product with them makes of activations is their sum.
constexpr std::uint32_t kOnes = 0x01010101;

// A block's products of 16 rows and 8 tokens, group by group. Each starts at kSumStart.
template <class Format>
__device__ __forceinline__ void multiply_block(int (&dots)[Format::kGroups][4], const std::uint32_t (&a)[4],
                                               const std::uint32_t (&b)[2]) {
#pragma unroll
  for (int group = 0; group < Format::kGroups; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) dots[group][i] = Format::kSumStart;
  }
  if constexpr (Format::kGroups == 1) {
    mma_s8(dots[0], a, b);
  } else {
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const std::uint32_t half[2] = {a[2 * group], a[2 * group + 1]};
      mma_s8_k16(dots[group], half, b[group]);
    }
  }
}

// Of a block's activations, 8 tokens, the sums of tokens 2t and 2t + 1.
template <class Format>
__device__ __forceinline__ float2 block_sums(const std::uint32_t (&b)[2]) {
  const std::uint32_t ones[4] = {kOnes, kOnes, kOnes, kOnes};
  int sums[4] = {Format::kSumStart, Format::kSumStart, Format::kSumStart, Format::kSumStart};
  mma_s8(sums, ones, b);
  return make_float2(sum_to_float<Format>(sums[0]), sum_to_float<Format>(sums[1]));
}

}  // namespace cria::cuda
