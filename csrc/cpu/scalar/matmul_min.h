// What the products with weights of a scale and a minimum for each 32 columns have in common: all but how a block is
// taken apart.
//
// A Format has Superblock, the one of panel.h, and
//     dot(superblock, b, lane, q)   Σ_k u_k q_k over block b of the superblock, u being the quants of the row at `lane`
//     line(superblock, b, lane)     what a quant u stands for
#pragma once

#include <cmath>

#include "../../core/half.h"
#include "../../core/k_scales.h"
#include "finish.h"
#include "words.h"

namespace cria::cpu::scalar {

// A quant stands for step * u + kSeed * lift.
struct Line {
  float step, lift;
};

// Of a word of scale and minimum, and the integers that they are multiplied by in the K-quants.
static inline Line line_of(std::uint32_t lead, std::int32_t scale, std::int32_t least) {
  const float step = half_to_float(static_cast<std::uint16_t>(lead)) * static_cast<float>(scale);
  const float minimum = half_to_float(static_cast<std::uint16_t>(lead >> 16)) * static_cast<float>(least);
  return {step, minimum / static_cast<float>(-kSeed)};  // the minimum of a K-quant is subtracted
}

// Of block b of a superblock of q4_K or q5_K.
template <class Superblock>
static Line six_bit_line(const Superblock& superblock, std::size_t b, std::size_t lane) {
  const auto& lines = superblock.scales;
  const std::size_t i = 4 * lane + b % 4;
  const ScaleAndMinimum scales = scales_of(lines[0][i], lines[1][i], lines[2][i], b);
  return line_of(word_of(superblock.lead, lane), scales.scale, scales.minimum);
}

template <class Format>
static float row_sum_min(const MatmulQ& op, std::size_t row, std::size_t token) {
  constexpr std::size_t kBlocks = Format::Superblock::kCols / kBlock;
  const auto* panel = panel_superblocks<typename Format::Superblock>(op.weights, row / kPanelRows);
  const std::size_t lane = row % kPanelRows;
  float sum = 0.0f;
  for (std::size_t b = 0; b < op.weights.cols / kBlock; ++b) {
    const auto& superblock = panel[b / kBlocks];
    const std::size_t at = op.x.at(token, b);
    const std::int32_t dot = Format::dot(superblock, b % kBlocks, lane, op.x.block(token, b));
    const Line line = Format::line(superblock, b % kBlocks, lane);
    sum = std::fma(static_cast<float>(dot), line.step * op.x.scales[at], sum);
    sum = std::fma(line.lift, static_cast<float>(op.x.seeds[at]) * op.x.scales[at], sum);
  }
  return sum;
}

template <class Format>
static void matmul_min(const MatmulQ& op, std::size_t begin, std::size_t end) {
  finish_rows(op.weights, op.out, op.tokens, begin, end,
              [&](std::size_t row, std::size_t token) { return row_sum_min<Format>(op, row, token); });
}

}  // namespace cria::cpu::scalar
