// How the matrix kernels go over tokens and weights: tiles of tokens, weights asked for ahead.
#pragma once

#include <cstddef>

#include "../panel.h"

namespace cria::cpu::avx2 {

constexpr std::size_t kHalfRows = 8;                     // rows to a register
constexpr std::size_t kHalves = kPanelRows / kHalfRows;  // registers to a panel

// Between the weights in use and those asked for from memory. Measured on Zen 5 with q4_0, one thread, as a share of
// the read bandwidth: 2 KiB 66 %, 4.5 KiB 78 %, 9 KiB 90 %, 18 KiB 86 %; less than a third of L1 (32 KiB and up). The
// next panel follows in memory, so this reaches over a panel's end; past the end of the matrix a prefetch does nothing.
constexpr std::size_t kPrefetchBytes = 9216;

// Tiles of 1, 2 and 3 tokens; the n-th takes n + 1 tokens, from `token` on. Three tokens by 16 rows are six
// accumulators in float; q4_0 has six more in integers, which leaves four of the sixteen registers for the operands. A
// fourth token spills and gains nothing.
constexpr std::size_t kMostTokens = 3;
template <class Op>
using Tiles = void (*[kMostTokens])(const Op& op, std::size_t panel, std::size_t token);

// The fewest tiles, as equal as can be: four tokens are 2 + 2, because a tile of one costs most of what a tile of two
// does.
template <class Op>
static void run_tiles(const Op& op, std::size_t panel, const Tiles<Op>& tiles) {
  const std::size_t count = (op.tokens + kMostTokens - 1) / kMostTokens;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t token = op.tokens * i / count, next = op.tokens * (i + 1) / count;
    tiles[next - token - 1](op, panel, token);
  }
}

}  // namespace cria::cpu::avx2
