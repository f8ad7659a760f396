#include "../quantize.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "../../core/weights.h"
#include "../reduce.h"

namespace cria::cpu::scalar {
namespace {

// The largest |x|. As bits, magnitudes compare as integers, with infinity and NaN above every number.
float largest(const float* x) {
  std::uint32_t bits = 0;
  for (std::size_t k = 0; k < kBlock; ++k) bits = std::max(bits, std::bit_cast<std::uint32_t>(x[k]) & 0x7fffffff);
  return std::bit_cast<float>(bits);
}

void quantize_block(const float* x, std::int8_t* quants, float* scale, std::int32_t* seed) {
  const BlockScale block = block_scale(largest(x));
  float products[kLanes] = {};
  std::int32_t squares = 0;
  *seed = 0;
  for (std::size_t k = 0; k < kBlock; ++k) {
    const float y = block.inverse == 0.0f ? 0.0f : x[k] * block.inverse;
    const float q = std::nearbyint(y);
    quants[k] = static_cast<std::int8_t>(q);
    products[k % kLanes] = std::fma(y, q, products[k % kLanes]);
    squares += quants[k] * quants[k];
    *seed += kSeed * quants[k];
  }
  *scale = squares == 0 ? block.scale : block.scale * (sum_lanes(products) / static_cast<float>(squares));
}

}  // namespace

void quantize(const Quantize& op, std::size_t begin, std::size_t end) {
  const QuantRows& out = op.out;
  for (std::size_t row = begin; row < end; ++row) {
    for (std::size_t b = 0; b < out.blocks; ++b) {
      const std::size_t column = b * kBlock, first = std::min(column, op.dim), last = std::min(column + kBlock, op.dim);
      float x[kBlock] = {};
      std::copy(op.x + row * op.x_stride + first, op.x + row * op.x_stride + last, x);
      const std::size_t at = out.at(row, b);
      quantize_block(x, out.block(row, b), &out.scales[at], &out.seeds[at]);
    }
  }
}

}  // namespace cria::cpu::scalar
