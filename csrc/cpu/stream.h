// Weights from memory: a panel's superblocks, and how far ahead of their use they are asked for.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>

#include "panel.h"

namespace cria::cpu {

// A panel, and the one that is read after it. The functions here are inlined by force: see kv.h.
template <class Superblock>
struct Stream {
  const Superblock *here, *there;
  std::size_t count;  // superblocks of a panel

  [[gnu::always_inline]] Stream(const Panels& weights, std::size_t panel, std::size_t next)
      : here(panel_superblocks<Superblock>(weights, panel)),
        there(panel_superblocks<Superblock>(weights, next)),
        count((weights.cols + Superblock::kCols - 1) / Superblock::kCols) {}

  // Superblock i, which may lie past the panel's end, to be asked for: past the end of the matrix that does nothing.
  [[gnu::always_inline]] const char* superblock(std::size_t i) const {
    return reinterpret_cast<const char*>(i < count ? here + i : there + (i - count));
  }

  // Called before every block, asks for superblock i by shares of 64 columns, at the first block of each: all lines of
  // one of 256 columns at once hold up those in hand, on Zen 5 by 2 to 5 % of a product with 128 tokens.
  [[gnu::always_inline]] void prefetch(std::size_t i, std::size_t block) const {
    constexpr std::size_t kShares = Superblock::kCols > 64 ? Superblock::kCols / 64 : 1;
    constexpr std::size_t kBlocks = Superblock::kCols / kBlock / kShares, kBytes = sizeof(Superblock) / kShares;
    if (block % kBlocks != 0) return;
    const char* bytes = superblock(i) + block / kBlocks * kBytes;
#pragma GCC unroll 17
    for (std::size_t line = 0; line < kBytes; line += kLine) _mm_prefetch(bytes + line, _MM_HINT_T0);
  }
};

// For one token or two. Measured on Zen 5 with q4_0, one thread, as a share of the read bandwidth: 4.5 KiB 79 to 84 %,
// 9 KiB 85 to 92 %, 13.5 KiB 92 %, 18 KiB 90 %, 27 KiB 89 %; less than half of L1 (32 KiB and up).
constexpr std::size_t kPrefetchBytes = 13824;

// For more, whose work on 64 columns takes some 6 ns a token in either instruction set: a superblock that is asked for
// when 40 tokens' work on so many lies before it has 250 ns to come. On Zen 5, one thread, q4_0 at 4 tokens: 27 GB/s 16
// tokens ahead, 33 to 35 at 32 to 48.
constexpr std::size_t kPrefetchTokens = 40;
// A third of L1, for each of two panels, bounds it: q5_K at one token, 37 to 39 GB/s instead of 30 to 36.
constexpr std::size_t kPrefetchMost = 16384;
template <class Superblock>
static inline std::size_t prefetch_superblocks(std::size_t tokens) {
  return std::min(1 + kPrefetchTokens * 64 / Superblock::kCols / tokens, kPrefetchMost / sizeof(Superblock));
}

}  // namespace cria::cpu
