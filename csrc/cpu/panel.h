// How the CPU backend lays weights out in memory: panels of 16 rows, the rows interleaved.
//
// A lane of a vector register is an output row, so a matrix kernel never adds across lanes: every output is one chain
// of fused multiply-adds over ascending k, whatever the width of the register, the number of tokens, or of threads.
//
//     matrix [rows][cols]          panel p: rows 16p ... 16p+15, contiguous; rows past the end are zero
//     ┌────────────────┐
//     │ panel 0        │           f32, f16, bf16      [cols] of 16 values, one for each row
//     ├────────────────┤
//     │ panel 1        │           q4_0, q8_0          [ceil(cols / 64)] superblocks of 64 columns
//     ├────────────────┤
//     │ ...            │
//     └────────────────┘
//
// A superblock is two blocks of 32 columns. In each, `quants[b][g]` is one cache line, one operand of vpdpbusd (16 sums
// of 4 products) and two of vpmaddubsw:
//
//     byte             0   1   2   3 │ 4   5   6   7 │ ... │ 60  61  62  63
//     row              0   0   0   0 │ 1   1   1   1 │ ... │ 15  15  15  15
//     q8_0   k = 4g +  0   1   2   3 │ 0   1   2   3 │     │ 0   1   2   3     g < 8, stored as q + 128
//     q4_0   the same k in the low nibble, k + 16 in the high one               g < 4, stored as q + 8
//
// The quants are unsigned because both instructions want one unsigned operand; the zero point is taken out again,
// exactly, through the seed that quantize.h keeps of each activation block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/weights.h"

namespace cria::cpu {

// Of all that this file says of bytes. Files hold packed matrices: whatever changes a byte of one counts it up.
constexpr std::uint32_t kPanelLayout = 1;

constexpr std::size_t kPanelRows = 16;
constexpr std::size_t kSuperblock = 64;                          // columns
constexpr std::size_t kSuperblockBlocks = kSuperblock / kBlock;  // 2
constexpr std::size_t kLine = 64;                                // bytes of a cache line
constexpr std::int32_t kQ4Zero = 8, kQ8Zero = 128;               // what is added to make the quants unsigned

struct alignas(kLine) Q4Superblock {
  std::uint16_t scale[kSuperblockBlocks][kPanelRows];  // binary16
  std::uint8_t quants[kSuperblockBlocks][4][kLine];
};
static_assert(sizeof(Q4Superblock) == 9 * kLine);  // 4.5 bits a weight, as in the file

struct alignas(kLine) Q8Superblock {
  std::uint16_t scale[kSuperblockBlocks][kPanelRows];  // binary16
  std::uint8_t quants[kSuperblockBlocks][8][kLine];
};
static_assert(sizeof(Q8Superblock) == 17 * kLine);

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
  const std::size_t count = matrix.cols / kSuperblock + (matrix.cols % kSuperblock != 0);
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

}  // namespace cria::cpu
