// Weights from memory: a panel's superblocks, and how far ahead of their use they are asked for.
#pragma once

#include <immintrin.h>

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

  // Asks for superblock i.
  [[gnu::always_inline]] void prefetch(std::size_t i) const {
    const char* bytes = superblock(i);
#pragma GCC unroll 17
    for (std::size_t line = 0; line < sizeof(Superblock); line += kLine) _mm_prefetch(bytes + line, _MM_HINT_T0);
  }
};

// For one token or two. Measured on Zen 5 with q4_0, one thread, as a share of the read bandwidth: 4.5 KiB 79 to 84 %,
// 9 KiB 85 to 92 %, 13.5 KiB 92 %, 18 KiB 90 %, 27 KiB 89 %; less than half of L1 (32 KiB and up).
constexpr std::size_t kPrefetchBytes = 13824;

// For more, whose work on a superblock takes some 6 ns a token in either instruction set: a superblock that is asked
// for when 40 tokens' work lies before it has 250 ns to come. On Zen 5, one thread, at 4
// tokens: 27 GB/s 16 tokens ahead, 33 to 35 at 32 to 48.
constexpr std::size_t kPrefetchTokens = 40;
static inline std::size_t prefetch_superblocks(std::size_t tokens) { return 1 + kPrefetchTokens / tokens; }

}  // namespace cria::cpu
