// What the products with weights of a scale for each 16 columns have in common: all but how a block is taken apart.
//
// A Format has Superblock, the one of panel.h, kZero, the weights' zero point, and of the row at `lane`
//     quant(superblock, b, lane, k)   the unsigned quant of column k of block b
//     scale(superblock, g, lane)      the integer scale of columns 16g ... 16g + 15
//     lead(superblock, lane)          the scale of that scale
// and, where kMinimum says that there are minima,
//     minimum(superblock, g, lane), lead_minimum(superblock, lane)
#pragma once

#include <cmath>

#include "../../core/half.h"
#include "finish.h"
#include "words.h"

namespace cria::cpu::scalar {

template <class Format>
static float row_sum_groups(const MatmulQ& op, std::size_t row, std::size_t token) {
  constexpr std::size_t kBlocks = Format::Superblock::kCols / kBlock, kGroup = kBlock / 2;
  const auto* panel = panel_superblocks<typename Format::Superblock>(op.weights, row / kPanelRows);
  const std::size_t lane = row % kPanelRows;
  float sum = 0.0f;
  for (std::size_t block = 0; block < op.weights.cols / kBlock; ++block) {
    const auto& superblock = panel[block / kBlocks];
    const std::size_t b = block % kBlocks, at = op.x.at(token, block);
    const std::int8_t* q = op.x.block(token, block);
    const std::int32_t sums[2] = {first_sum(op.x.sums[at]), last_sum(op.x.sums[at])};
    std::int32_t dot = 0, least = 0;
    for (std::size_t h = 0; h < 2; ++h) {
      std::int32_t product = -Format::kZero * sums[h];
      for (std::size_t k = h * kGroup; k < (h + 1) * kGroup; ++k)
        product += Format::quant(superblock, b, lane, k) * q[k];
      dot += Format::scale(superblock, 2 * b + h, lane) * product;
      if constexpr (Format::kMinimum) least += Format::minimum(superblock, 2 * b + h, lane) * sums[h];
    }
    const float x_scale = op.x.scales[at];
    sum = std::fma(static_cast<float>(dot), half_to_float(Format::lead(superblock, lane)) * x_scale, sum);
    if constexpr (Format::kMinimum) {
      const float lead = half_to_float(Format::lead_minimum(superblock, lane));
      sum = std::fma(static_cast<float>(-least), lead * x_scale, sum);
    }
  }
  return sum;
}

template <class Format>
static void matmul_groups(const MatmulQ& op, std::size_t begin, std::size_t end) {
  finish_rows(op.weights, op.out, op.tokens, begin, end,
              [&](std::size_t row, std::size_t token) { return row_sum_groups<Format>(op, row, token); });
}

}  // namespace cria::cpu::scalar
