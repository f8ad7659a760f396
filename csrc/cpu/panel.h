// How the CPU backend lays weights out in memory: panels of 16 rows, the rows interleaved.
//
// A lane of a vector register is an output row, so a matrix kernel never adds across lanes: every output is one chain
// of fused multiply-adds over ascending k, whatever the width of the register, the number of tokens, or of threads.
//
//     matrix [rows][cols]          panel p: rows 16p ... 16p+15, contiguous; rows past the end are zero
//     ┌────────────────┐
//     │ panel 0        │           f32, f16, bf16      [cols] of 16 values, one for each row
//     ├────────────────┤
//     │ panel 1        │           the quantised       [cols / columns of a superblock, rounded up] superblocks
//     ├────────────────┤
//     │ ...            │
//     └────────────────┘
//
// A superblock is what the 16 rows have for one block of a file, or for two, word by word: a line has the same four
// bytes of each row, and is one operand of vpdpbusd (16 sums of 4 products) and two of vpmaddubsw:
//
//     byte             0   1   2   3 │ 4   5   6   7 │ ... │ 60  61  62  63
//     row              0   0   0   0 │ 1   1   1   1 │ ... │ 15  15  15  15
//
// So a packed matrix takes what it takes in a file, but for the rows and columns that fill it up. In q4_0, q5_0, q8_0
// and iq4_nl, whose blocks have a scale of two bytes before their words, a superblock is two blocks, so that the scales
// fill a line too. In the others it is one; where that has a scale of two bytes behind its words, the next superblock
// begins in the middle of a cache line.
//
// The words of a block of 32 columns, k being the column of a line's byte i = 0 ... 3:
//
//     q8_0    line g < 8          k = 4g + i, as q + 128
//     q4_0    line g < 4          k = 4g + i in the low nibble, k + 16 in the high one; so in the others whose block is
//                                 32
//     q5_0    the fifth bits      bit g < 8 of byte i is the fifth of k = 4g + i. A file has it at bit 4g + i of
//                                 the word; so in q5_1
//
// Words of the blocks of 256 columns stand as in a file: decode.cc draws them.
//
// The quants are unsigned because both instructions want one unsigned operand; the zero point is taken out again,
// exactly, through the sums that quantize.h keeps of each activation block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/weights.h"

namespace cria::cpu {

// Of all that this file says of bytes. Files hold packed matrices: whatever changes a byte of one counts it up.
constexpr std::uint32_t kPanelLayout = 1;

constexpr std::size_t kPanelRows = 16;
constexpr std::size_t kSuperblockBlocks = 2;        // of 32 columns, where a superblock is two blocks
constexpr std::size_t kLine = 64;                   // bytes of a cache line
constexpr std::int32_t kQ4Zero = 8, kQ8Zero = 128;  // what is added to make the quants unsigned, also of q5_0
constexpr std::int32_t kQ5Zero = 16;

// Two blocks of 32 columns, each of a scale and `words` words. Scales are binary16.
template <std::size_t words>
struct alignas(kLine) PairSuperblock {
  static constexpr std::size_t kCols = 2 * kBlock;
  std::uint16_t scale[kSuperblockBlocks][kPanelRows];
  std::uint8_t quants[kSuperblockBlocks][words][kLine];
};
using Q4Superblock = PairSuperblock<4>;  // and iq4_nl's
using Q5Superblock = PairSuperblock<5>;  // the fifth bits, then the nibbles
using Q8Superblock = PairSuperblock<8>;
static_assert(sizeof(Q4Superblock) == 9 * kLine);
static_assert(sizeof(Q5Superblock) == 11 * kLine);
static_assert(sizeof(Q8Superblock) == 17 * kLine);

// One block of words alone. Of `lead`, a word of two numbers, the lower half is the scale, the upper one the minimum,
// in q4_z, whose superblock is q4_1's, the zero.
struct alignas(kLine) Q4_1Superblock {
  static constexpr std::size_t kCols = kBlock;
  std::uint8_t lead[kLine];
  std::uint8_t nibbles[4][kLine];
};
struct alignas(kLine) Q5_1Superblock {
  static constexpr std::size_t kCols = kBlock;
  std::uint8_t lead[kLine];
  std::uint8_t fifths[kLine];
  std::uint8_t nibbles[4][kLine];
};
struct alignas(kLine) Q2KSuperblock {
  static constexpr std::size_t kCols = kBlockK;
  std::uint8_t scales[4][kLine];
  std::uint8_t pairs[2][8][kLine];
  std::uint8_t lead[kLine];
};
struct alignas(kLine) Q4KSuperblock {
  static constexpr std::size_t kCols = kBlockK;
  std::uint8_t lead[kLine];
  std::uint8_t scales[3][kLine];
  std::uint8_t nibbles[4][8][kLine];
};
struct alignas(kLine) Q5KSuperblock {
  static constexpr std::size_t kCols = kBlockK;
  std::uint8_t lead[kLine];
  std::uint8_t scales[3][kLine];
  std::uint8_t fifths[8][kLine];
  std::uint8_t nibbles[4][8][kLine];
};

// One block of words with a scale, binary16, behind them.
struct alignas(kLine / 2) Q3KSuperblock {
  static constexpr std::size_t kCols = kBlockK;
  std::uint8_t thirds[8][kLine];
  std::uint8_t pairs[2][8][kLine];
  std::uint8_t scales[3][kLine];
  std::uint16_t scale[kPanelRows];
};
struct alignas(kLine / 2) Q6KSuperblock {
  static constexpr std::size_t kCols = kBlockK;
  std::uint8_t nibbles[2][2][8][kLine];
  std::uint8_t pairs[2][8][kLine];
  std::uint8_t scales[4][kLine];
  std::uint16_t scale[kPanelRows];
};
static_assert(sizeof(Q4_1Superblock) == kPanelRows * sizeof(Q4_1) &&
              sizeof(Q5_1Superblock) == kPanelRows * sizeof(Q5_1));
static_assert(sizeof(Q2KSuperblock) == kPanelRows * sizeof(Q2_K) && sizeof(Q3KSuperblock) == kPanelRows * sizeof(Q3_K));
static_assert(sizeof(Q4KSuperblock) == kPanelRows * sizeof(Q4_K) && sizeof(Q5KSuperblock) == kPanelRows * sizeof(Q5_K));
static_assert(sizeof(Q6KSuperblock) == kPanelRows * sizeof(Q6_K));

// A packed matrix. `data` starts on a cache line.
struct Panels {
  cria_type type;
  const std::uint8_t* data;
  std::size_t rows, cols;
};

static inline std::size_t panel_count(std::size_t rows) { return rows / kPanelRows + (rows % kPanelRows != 0); }

// The superblocks of one panel of a quantised matrix, and the values of one panel of a float matrix. Static, not
// inline: see reduce.h.
template <class Superblock>
static inline const Superblock* panel_superblocks(const Panels& matrix, std::size_t panel) {
  const std::size_t count = matrix.cols / Superblock::kCols + (matrix.cols % Superblock::kCols != 0);
  return reinterpret_cast<const Superblock*>(matrix.data) + panel * count;
}
template <class Element>
static inline const Element* panel_values(const Panels& matrix, std::size_t panel) {
  return reinterpret_cast<const Element*>(matrix.data) + panel * matrix.cols * kPanelRows;
}

// Bytes of one panel; a multiple of 32. Throws where they do not fit a size_t.
std::size_t panel_bytes(cria_type type, std::size_t cols);

// Bytes of a packed matrix. Throws likewise.
std::size_t packed_bytes(cria_type type, std::size_t rows, std::size_t cols);

// Puts `count` rows of `cols` weights, as they stand in a file (core/weights.h), at rows [row, row + count) of the
// packed matrix at `data`. Rows of one panel may come from several calls, but not at the same time.
void pack_rows(cria_type type, std::uint8_t* data, std::size_t cols, std::size_t row, std::size_t count,
               const std::uint8_t* source);

// Writes row `row` of the packed matrix back as a file holds it: what pack_rows read, byte for byte.
void unpack_row(const Panels& panels, std::size_t row, std::uint8_t* out);

// The same for one block of a row, of a quantised type.
void unpack_block(const Panels& panels, std::size_t row, std::size_t block, std::uint8_t* out);

}  // namespace cria::cpu
