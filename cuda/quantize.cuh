// A block of 32 activations to int8 by eight lanes, four columns a lane: csrc/cpu/quantize.h's formula, and its bits.
//
// Lane i of eight holds columns 4i ... 4i + 3, and of the sixteen partial sums of Σ y q (csrc/cpu/reduce.h) the upper
// four lanes hold four each: sum j takes column j from a lower lane, then their own, j + 16. The tree's first two steps
// are then butterflies over those lanes, and the last two are inside each.
//
//     lane          0  ...  3           4           5           6           7
//     columns     0-3 ... 12-15       16-19       20-23       24-27       28-31
//     sums                             0-3         4-7         8-11       12-15
#pragma once

#include <cstdint>

#include "block_scale.cuh"
#include "quant_rows.h"
#include "reduce.cuh"

namespace cria::cuda {

// y and its nearest integer, ties to even: adding 1.5 * 2^23 rounds, and leaves the integer in the low bits of the sum.
// Two additions, where the conversions to int and back run at a quarter of their rate.
struct Rounded {
  float y, q;
  std::uint32_t byte;
};

__device__ inline Rounded round_scaled(float x, float inverse) {
  constexpr float kRound = 0x1.8p+23f;
  const float y = inverse == 0.0f ? 0.0f : x * inverse;  // an infinity or NaN becomes 0
  const float shifted = y + kRound;
  return {y, shifted - kRound, __float_as_uint(shifted) & 0xff};
}

struct QuantFour {
  std::uint32_t quants;  // the lane's four, the first in the low byte
  float scale;           // of the block; in the upper four lanes of its eight
};

// Every lane of the warp takes part.
__device__ inline QuantFour quantize_four(float4 x) {
  const std::uint32_t largest =
      max(max(magnitude_bits(x.x), magnitude_bits(x.y)), max(magnitude_bits(x.z), magnitude_bits(x.w)));
  const BlockScale block = block_scale(warp_reduce_max<8>(largest));
  const Rounded four[] = {round_scaled(x.x, block.inverse), round_scaled(x.y, block.inverse),
                          round_scaled(x.z, block.inverse), round_scaled(x.w, block.inverse)};
  const std::uint32_t quants = four[0].byte | four[1].byte << 8 | four[2].byte << 16 | four[3].byte << 24;

  float sums[4], squares = 0.0f;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float lower = __shfl_xor_sync(kAllLanes, four[i].y * four[i].q, 4);
    sums[i] = warp_reduce_add<4>(fmaf(four[i].y, four[i].q, lower));
    squares = fmaf(four[i].q, four[i].q, squares);  // integers, exact: at most 32 * 127^2
  }
  squares = warp_reduce_add<8>(squares);
  const float products = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  return {quants, squares == 0.0f ? block.scale : block.scale * (products / squares)};
}

// Column `column` is the lane's first of its four.
__device__ inline void store_quants(const QuantRows& out, int row, int column, QuantFour four) {
  const std::int64_t capacity = out.capacity;
  std::int8_t* chunk = out.quants + (column / kQuantChunk * capacity + row) * kQuantChunk;
  *reinterpret_cast<std::uint32_t*>(chunk + column % kQuantChunk) = four.quants;
  if (column % kQuantBlock == kQuantBlock / 2) out.scales[column / kQuantBlock * capacity + row] = four.scale;
}

// Columns of a row with those that fill it up.
__device__ inline int quant_columns(int dim) { return (dim + kSuperblock - 1) / kSuperblock * kSuperblock; }

}  // namespace cria::cuda
