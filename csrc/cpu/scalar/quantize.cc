#include "../quantize.h"

#include <algorithm>
#include <cmath>

#include "../quantize_block.h"
#include "../reduce.h"

namespace cria::cpu::scalar {
namespace {

// A block, with the scale that fits its quants best.
void quantize_fitted(const float* x, std::int8_t* quants, float* scale, std::int32_t* seed, QuantSums* sums) {
  const BlockScale block = block_scale(largest_magnitude(x));
  float products[kLanes] = {};
  std::int32_t squares = 0, sum[2] = {};
  for (std::size_t k = 0; k < kBlock; ++k) {
    const float y = scaled_to_quants(x[k], block);
    const float q = std::nearbyint(y);
    quants[k] = static_cast<std::int8_t>(q);
    products[k % kLanes] = std::fma(y, q, products[k % kLanes]);
    squares += quants[k] * quants[k];
    sum[k / (kBlock / 2)] += quants[k];
  }
  *seed = kSeed * (sum[0] + sum[1]);
  *sums = quant_sums(sum[0], sum[1]);
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
      quantize_fitted(x, out.block(row, b), &out.scales[at], &out.seeds[at], &out.sums[at]);
    }
  }
}

}  // namespace cria::cpu::scalar
