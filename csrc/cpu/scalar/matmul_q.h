// What the products with q4_0 and q8_0 weights have in common: all but the integer dot product of a block.
//
// A Format has Superblock, the one of panel.h, kZero, the weights' zero point, and
//     dot(lines, lane, q)   Σ_k u_k q_k over one block, u being the unsigned weights of the row at `lane`
#pragma once

#include <algorithm>
#include <cmath>

#include "../../core/half.h"
#include "../matmul.h"

namespace cria::cpu::scalar {

template <class Format>
static void matmul_q(const MatmulQ& op, std::size_t begin, std::size_t end) {
  const std::size_t blocks = op.weights.cols / kBlock;
  const std::size_t last = std::min(end * kPanelRows, op.weights.rows);
  for (std::size_t row = begin * kPanelRows; row < last; ++row) {
    const std::size_t lane = row % kPanelRows;
    const auto* panel = panel_superblocks<typename Format::Superblock>(op.weights, row / kPanelRows);
    for (std::size_t t = 0; t < op.tokens; ++t) {
      float out = 0.0f;
      for (std::size_t b = 0; b < blocks; ++b) {
        const auto& superblock = panel[b / kSuperblockBlocks];
        const std::size_t side = b % kSuperblockBlocks;
        const std::int32_t dot = Format::dot(superblock.quants[side], lane, op.x.block(t, b));
        const std::int32_t product = dot - Format::kZero * op.x.sums[op.x.at(t, b)];
        const float scale = half_to_float(superblock.scale[side][lane]) * op.x.scales[op.x.at(t, b)];
        out = std::fma(static_cast<float>(product), scale, out);
      }
      op.out[t * op.out_stride + row] = out;
    }
  }
}

}  // namespace cria::cpu::scalar
