// How the vector kernels go over blocks to quantise: in groups of as many as a register has lanes, so that what a block
// has one of (its maximum, its divisions, its sum) costs a lane, not an instruction.
//
// Static, not inline: see reduce.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/weights.h"
#include "quantize.h"

namespace cria::cpu {

// A kernel's group: x [lanes][32] to where `out` has blocks at, at + step, at + 2 step ...
using QuantizeGroup = void (*)(const float* x, const QuantRows& out, std::size_t at, std::size_t step);

// The last blocks of a row, `count` of them, by way of a whole group: `n` floats of x, then zeros.
template <std::size_t lanes, QuantizeGroup group>
static void quantize_rest(const float* x, std::size_t n, const QuantRows& out, std::size_t at, std::size_t step,
                          std::size_t count) {
  alignas(64) float padded[lanes * kBlock] = {};
  std::copy(x, x + n, padded);
  alignas(64) std::int8_t quants[lanes * kBlock];
  float scales[lanes];
  std::int32_t seeds[lanes];
  QuantSums sums[lanes];
  group(padded, {quants, scales, seeds, sums, lanes, lanes, 1}, 0, 1);
  for (std::size_t i = 0; i < count; ++i) {
    std::copy(quants + i * kBlock, quants + (i + 1) * kBlock, out.quants + (at + i * step) * kBlock);
    out.scales[at + i * step] = scales[i];
    out.seeds[at + i * step] = seeds[i];
    out.sums[at + i * step] = sums[i];
  }
}

// Rows [begin, end). Block by block, neighbouring rows write to the same cache lines: 16 rows to a line of scales. So
// rows go inside, groups outside.
template <std::size_t lanes, QuantizeGroup group>
static void quantize_in_groups(const Quantize& op, std::size_t begin, std::size_t end) {
  const QuantRows& out = op.out;
  for (std::size_t b = 0; b < out.blocks; b += lanes) {
    const std::size_t first = std::min(b * kBlock, op.dim), left = op.dim - first;
    for (std::size_t row = begin; row < end; ++row) {
      const float* x = op.x + row * op.x_stride + first;
      if (left >= lanes * kBlock) {
        group(x, out, out.at(row, b), out.block_step);
      } else {
        quantize_rest<lanes, group>(x, left, out, out.at(row, b), out.block_step, std::min(lanes, out.blocks - b));
      }
    }
  }
}

// A group's scales, seeds and sums to their places.
template <std::size_t lanes>
static void scatter_scales(const float (&scales)[lanes], const std::int32_t (&seeds)[lanes],
                           const QuantSums (&sums)[lanes], const QuantRows& out, std::size_t at, std::size_t step) {
  for (std::size_t n = 0; n < lanes; ++n) {
    out.scales[at + n * step] = scales[n];
    out.seeds[at + n * step] = seeds[n];
    out.sums[at + n * step] = sums[n];
  }
}

}  // namespace cria::cpu
