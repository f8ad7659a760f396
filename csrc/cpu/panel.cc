// Packing is a transposition of words: the 16 rows of a panel stand 16 words to the line, in place of one after
// another.
//
//     row r of the source   | scale | word 0 | word 1 | word 2 | word 3 |   one block, here of q4_0
//                               |       |        +--> quants[b][1], word r
//                               |       +-----------> quants[b][0], word r
//                               +-------------------> scale[b][r]
//
// A q4_0 block already holds weight k + 16 in the nibble above weight k, and offset by 8, so its words move unchanged.
// A q8_0 word has 128 added to each of its bytes, which is a flip of their top bits. A word of the float formats is one
// weight.
//
// Words move in squares, a register to the row: four by four of 32 bits, eight by eight of 16. SSE2, which every x86-64
// has, is enough: from L2 to L2 it packs 20 to 35 GB/s on a core of a Zen 5, and to memory 11 to 14.
//
// Bound by memory: a panel's 16 source rows are read as 16 streams, and each of its lines is filled within one block's
// work, or one column of squares', while it is in L1.
#include "panel.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "../core/checked.h"
#include "../core/error.h"

namespace cria::cpu {
namespace {

// How a format's file block maps to its packed superblock.
struct PackQ4 {
  using Block = Q4_0;
  using Superblock = Q4Superblock;
  static constexpr std::uint32_t kFlip = 0;
};

struct PackQ8 {
  using Block = Q8_0;
  using Superblock = Q8Superblock;
  static constexpr std::uint32_t kFlip = 0x80808080;
};

// A block's words, after its scale.
template <class Format>
constexpr std::size_t kWords = (sizeof(typename Format::Block) - 2) / 4;

void move_word(std::uint8_t* to, const std::uint8_t* from, std::uint32_t flip) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  word ^= flip;
  std::memcpy(to, &word, sizeof word);
}

__m128i load(const std::uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
void store(std::uint8_t* to, __m128i line) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), line); }

// Row i of a square becomes its column i: here of 4 x 4 words of 32 bits.
void transpose(__m128i (&rows)[4]) {
  const __m128i a = _mm_unpacklo_epi32(rows[0], rows[1]), b = _mm_unpacklo_epi32(rows[2], rows[3]);
  const __m128i c = _mm_unpackhi_epi32(rows[0], rows[1]), d = _mm_unpackhi_epi32(rows[2], rows[3]);
  rows[0] = _mm_unpacklo_epi64(a, b);
  rows[1] = _mm_unpackhi_epi64(a, b);
  rows[2] = _mm_unpacklo_epi64(c, d);
  rows[3] = _mm_unpackhi_epi64(c, d);
}

// And of 8 x 8 words of 16 bits: pairs of rows first, whose pairs of words are then words of 32 bits.
void transpose(__m128i (&rows)[8]) {
  __m128i low[4], high[4];
  for (int i = 0; i < 4; ++i) {
    low[i] = _mm_unpacklo_epi16(rows[2 * i], rows[2 * i + 1]);
    high[i] = _mm_unpackhi_epi16(rows[2 * i], rows[2 * i + 1]);
  }
  transpose(low);
  transpose(high);
  for (int i = 0; i < 4; ++i) {
    rows[i] = low[i];
    rows[4 + i] = high[i];
  }
}

template <class Format>
struct Quantised {
  // Rows [lane, lane + count) of one panel, from `count` rows of a file.
  static void pack(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count,
                   const std::uint8_t* source) {
    using Block = typename Format::Block;
    auto* superblock = reinterpret_cast<typename Format::Superblock*>(panel);
    const std::size_t blocks = cols / kBlock, row = blocks * sizeof(Block);
    for (std::size_t b = 0; b < blocks; ++b) {
      auto& scale = superblock[b / kSuperblockBlocks].scale[b % kSuperblockBlocks];
      auto& quants = superblock[b / kSuperblockBlocks].quants[b % kSuperblockBlocks];
      const std::uint8_t* block = source + b * sizeof(Block);
      for (std::size_t r = 0; r < count; ++r) std::memcpy(&scale[lane + r], block + r * row, 2);
      std::size_t r = 0;
      for (; r + 4 <= count; r += 4) pack_four(quants, lane + r, block + r * row + 2, row);
      for (; r < count; ++r) {
        for (std::size_t g = 0; g < kWords<Format>; ++g) {
          move_word(&quants[g][4 * (lane + r)], block + r * row + 2 + 4 * g, Format::kFlip);
        }
      }
    }
  }

  // The quants of one block of four rows, `row` bytes apart.
  template <class Quants>
  static void pack_four(Quants& quants, std::size_t lane, const std::uint8_t* source, std::size_t row) {
    const __m128i flip = _mm_set1_epi32(static_cast<int>(Format::kFlip));
    for (std::size_t g = 0; g < kWords<Format>; g += 4) {
      __m128i words[4];
      for (std::size_t r = 0; r < 4; ++r) words[r] = _mm_xor_si128(load(source + r * row + 4 * g), flip);
      transpose(words);
      for (std::size_t i = 0; i < 4; ++i) store(&quants[g + i][4 * lane], words[i]);
    }
  }

  static void unpack(const std::uint8_t* panel, std::size_t cols, std::size_t lane, std::uint8_t* out) {
    const auto* superblock = reinterpret_cast<const typename Format::Superblock*>(panel);
    for (std::size_t b = 0; b < cols / kBlock; ++b, out += sizeof(typename Format::Block)) {
      const auto& from = superblock[b / kSuperblockBlocks];
      std::memcpy(out, &from.scale[b % kSuperblockBlocks][lane], 2);
      for (std::size_t g = 0; g < kWords<Format>; ++g) {
        move_word(out + 2 + 4 * g, &from.quants[b % kSuperblockBlocks][g][4 * lane], Format::kFlip);
      }
    }
  }
};

template <class Word>
struct Floats {
  static constexpr std::size_t kSide = sizeof(__m128i) / sizeof(Word);

  static void pack(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count,
                   const std::uint8_t* source) {
    // Squares, as far as they go; then the columns right of them, and the rows below.
    const std::size_t whole_cols = cols - cols % kSide, whole_rows = count - count % kSide;
    for (std::size_t c = 0; c < whole_cols; c += kSide) {
      for (std::size_t r = 0; r < whole_rows; r += kSide) pack_square(panel, cols, lane, r, c, source);
    }
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t c = r < whole_rows ? whole_cols : 0; c < cols; ++c) {
        std::memcpy(place(panel, c, lane + r), source + (r * cols + c) * sizeof(Word), sizeof(Word));
      }
    }
  }

  static void pack_square(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t r, std::size_t c,
                          const std::uint8_t* source) {
    __m128i words[kSide];
    for (std::size_t i = 0; i < kSide; ++i) words[i] = load(source + ((r + i) * cols + c) * sizeof(Word));
    transpose(words);
    for (std::size_t i = 0; i < kSide; ++i) store(place(panel, c + i, lane + r), words[i]);
  }

  static std::uint8_t* place(std::uint8_t* panel, std::size_t col, std::size_t lane) {
    return panel + (col * kPanelRows + lane) * sizeof(Word);
  }

  static void unpack(const std::uint8_t* panel, std::size_t cols, std::size_t lane, std::uint8_t* out) {
    for (std::size_t c = 0; c < cols; ++c) {
      std::memcpy(out + c * sizeof(Word), panel + (c * kPanelRows + lane) * sizeof(Word), sizeof(Word));
    }
  }
};

struct Packing {
  void (*pack)(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count, const std::uint8_t* source);
  void (*unpack)(const std::uint8_t* panel, std::size_t cols, std::size_t lane, std::uint8_t* out);
};

template <class Format>
constexpr Packing kPacking = {Format::pack, Format::unpack};

const Packing& packing(cria_type type) {
  switch (type) {
    case CRIA_TYPE_F32:
      return kPacking<Floats<std::uint32_t>>;
    case CRIA_TYPE_Q4_0:
      return kPacking<Quantised<PackQ4>>;
    case CRIA_TYPE_Q8_0:
      return kPacking<Quantised<PackQ8>>;
    default:
      return kPacking<Floats<std::uint16_t>>;
  }
}

}  // namespace

std::size_t panel_bytes(cria_type type, std::size_t cols) {
  // 16 rows as in a file, with the last superblock filled up.
  const std::size_t block = weight_format(type).block_bytes;
  std::size_t row = row_bytes(type, cols);
  const std::size_t most = std::numeric_limits<std::size_t>::max() / kPanelRows - block;
  require(row <= most, "cols", "few enough for 16 rows to fit the address space", cols);
  if (is_quantised(type) && cols % kSuperblock != 0) row += block;
  return row * kPanelRows;
}

std::size_t packed_bytes(cria_type type, std::size_t rows, std::size_t cols) {
  return checked_product({panel_count(rows), panel_bytes(type, cols)});
}

void pack_rows(cria_type type, std::uint8_t* data, std::size_t cols, std::size_t row, std::size_t count,
               const std::uint8_t* source) {
  const Packing& format = packing(type);
  const std::size_t source_row = row_bytes(type, cols), panel = panel_bytes(type, cols);
  while (count > 0) {
    const std::size_t lane = row % kPanelRows, rows = std::min(count, kPanelRows - lane);
    format.pack(data + row / kPanelRows * panel, cols, lane, rows, source);
    source += rows * source_row;
    row += rows;
    count -= rows;
  }
}

void unpack_row(const Panels& panels, std::size_t row, std::uint8_t* out) {
  const std::uint8_t* panel = panels.data + row / kPanelRows * panel_bytes(panels.type, panels.cols);
  packing(panels.type).unpack(panel, panels.cols, row % kPanelRows, out);
}

}  // namespace cria::cpu
