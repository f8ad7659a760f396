// Activation quantisation: a row of floats to int8, in blocks of 32, for the products with quantised weights.
//
//     y = x * (127 / max |x|),   q = y to the nearest integer, ties to even,   seed = -8 Σ q
//     sums = Σ q over the first 16 and over the last 16
//     scale = max |x| / 127 * (Σ y q / Σ q q),   Σ y q in the order of reduce.h, Σ q q exact
//
// The quotient, near 1, makes the scale the one that leaves the least squared error for these q: of the 32 degrees of
// freedom that rounding errors have, it takes out the one along q, and 3 % of their energy.
//
// A block of zeros, or one whose largest magnitude is below 2^-119, has scale 0 and q 0: its scale would be subnormal,
// and 127 / max could overflow. A block that holds an infinity or a NaN has scale NaN and q 0, so the fault reaches the
// result instead of turning into a number.
//
// The last block of a row is filled up with zeros, and so is the row up to a whole superblock of 64.
// A product starts at the seed, and so takes the weights' zero point z out exactly: Σ (w + z) q - z Σ q = Σ w q. It is
// 8 in q4_0; in q8_0, whose zero point is 128, the seed counts 16 times. Weights whose scales are of 16 columns take it
// out through the sums, and a weight's minimum counts Σ q times.
//
// Bound by its instructions: L2 gives the 128 bytes of a block in 2 cycles, and on Zen 5 they take 14 with AVX-512, 22
// with AVX2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace cria::cpu {

// Blocks that a quantised row of `dim` takes.
static inline std::size_t quant_blocks(std::size_t dim) { return (dim + 63) / 64 * 2; }

// What a seed is times the sum: minus the zero point of q4_0.
constexpr std::int32_t kSeed = -8;

// The two sums of a block, as the operand of vpmaddwd that they are: the first in the lower half. Neither is above
// 2032.
using QuantSums = std::int32_t;
static inline QuantSums quant_sums(std::int32_t first, std::int32_t last) {
  return static_cast<QuantSums>(static_cast<std::uint32_t>(last) << 16 | (static_cast<std::uint32_t>(first) & 0xffff));
}
static inline std::int32_t first_sum(QuantSums sums) { return static_cast<std::int16_t>(sums); }
static inline std::int32_t last_sum(QuantSums sums) { return sums >> 16; }

// Rows of quantised activations: quants [blocks][32], and for each block a scale, a seed and sums. Block b of row r
// stands at
//
//     r * row_step + b * block_step       row by row:     row_step = blocks of a row, block_step = 1
//                                         block by block: row_step = 1, block_step = rows
//
// Block by block is what products with many tokens read in one stream: the same columns of all of them together.
struct QuantRows {
  std::int8_t* quants;
  float* scales;
  std::int32_t* seeds;
  QuantSums* sums;
  std::size_t blocks;  // of a row; even
  std::size_t row_step, block_step;

  [[gnu::always_inline]] std::size_t at(std::size_t row, std::size_t block) const {
    return row * row_step + block * block_step;
  }
  [[gnu::always_inline]] std::int8_t* block(std::size_t row, std::size_t block) const {
    return quants + at(row, block) * 32;
  }
};

// Both ways to lay them out, in memory that has room for quant_blocks(dim) blocks a row.
static inline QuantRows quant_row_by_row(std::int8_t* quants, float* scales, std::int32_t* seeds, QuantSums* sums,
                                         std::size_t dim) {
  return {quants, scales, seeds, sums, quant_blocks(dim), quant_blocks(dim), 1};
}
static inline QuantRows quant_block_by_block(std::int8_t* quants, float* scales, std::int32_t* seeds, QuantSums* sums,
                                             std::size_t dim, std::size_t rows) {
  return {quants, scales, seeds, sums, quant_blocks(dim), 1, rows};
}

struct Quantize {
  const float* x;  // [rows][dim], rows `x_stride` floats apart
  std::size_t dim, x_stride;
  QuantRows out;  // rows as x
};

struct BlockScale {
  float scale;    // max |x| / 127
  float inverse;  // 127 / max |x|; 0 where every q is
};

// `largest` is the block's largest |x|; an infinity or NaN where the block holds one. Static, not inline: see reduce.h.
static inline BlockScale block_scale(float largest) {
  if (!(largest <= std::numeric_limits<float>::max())) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  if (largest < 0x1p-119f) return {0.0f, 0.0f};
  return {largest / 127.0f, 127.0f / largest};
}

// Rows [begin, end).
namespace scalar {
void quantize(const Quantize&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void quantize(const Quantize&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void quantize(const Quantize&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
