// What the products with weights of a scale and a zero point have in common: all but the integer dot product of a
// block.
//
// A Format has Superblock, the one of panel.h, kZero, the weights' zero point, and
//     dot(lines, lane, q)   Σ_k u_k q_k over one block, u being the unsigned weights of the row at `lane`
#pragma once

#include <cmath>

#include "../../core/half.h"
#include "finish.h"

namespace cria::cpu::scalar {

template <class Format>
static float row_sum(const MatmulQ& op, std::size_t row, std::size_t token) {
  const auto* panel = panel_superblocks<typename Format::Superblock>(op.weights, row / kPanelRows);
  const std::size_t lane = row % kPanelRows;
  float sum = 0.0f;
  for (std::size_t b = 0; b < op.weights.cols / kBlock; ++b) {
    const auto& superblock = panel[b / kSuperblockBlocks];
    const std::size_t side = b % kSuperblockBlocks;
    const std::int32_t dot = Format::dot(superblock.quants[side], lane, op.x.block(token, b));
    const std::int32_t product = dot + Format::kZero / -kSeed * op.x.seeds[op.x.at(token, b)];
    const float scale = half_to_float(superblock.scale[side][lane]) * op.x.scales[op.x.at(token, b)];
    sum = std::fma(static_cast<float>(product), scale, sum);
  }
  return sum;
}

template <class Format>
static void matmul_q(const MatmulQ& op, std::size_t begin, std::size_t end) {
  finish_rows(op.weights, op.out, op.tokens, begin, end,
              [&](std::size_t row, std::size_t token) { return row_sum<Format>(op, row, token); });
}

}  // namespace cria::cpu::scalar
