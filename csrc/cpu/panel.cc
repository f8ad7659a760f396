// Packing is a transposition of words: the 16 rows of a panel stand 16 words to the line, in place of one after
// another.
//
//     row r of the source   | scale | word 0 | word 1 | word 2 | word 3 |   one block, here of q4_0
//                               |       |        +--> quants[b][1], word r
//                               |       +-----------> quants[b][0], word r
//                               +-------------------> scale[b][r]
//
// Words move unchanged, but for those of q8_0, whose bytes have 128 added, which is a flip of their top bits, and the
// fifth bits of q5_0 and q5_1, which change places. A word of the float formats is one weight.
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
#include <iterator>
#include <limits>
#include <string>

#include "../core/checked.h"
#include "../core/error.h"

namespace cria::cpu {
namespace {

// The fifth bits of 32 columns from where a file has them to where a panel does, and back: bit 4g + i of a word, i < 4,
// goes to bit g of byte i. Of the five bits that number a bit, the lower two become the upper two: four exchanges of
// two of them, each of which swaps bits that lie `distance` apart.
struct Exchange {
  int distance;
  std::uint32_t lower;  // the bits that move up
};
constexpr Exchange kExchanges[] = {{7, 0x00aa00aa}, {1, 0x22222222}, {15, 0x0000aaaa}, {3, 0x0a0a0a0a}};

std::uint32_t exchange(std::uint32_t word, const Exchange& with) {
  const std::uint32_t differ = (word >> with.distance ^ word) & with.lower;
  return word ^ differ ^ differ << with.distance;
}

std::uint32_t fifths_to_panel(std::uint32_t word) {
  for (const Exchange& with : kExchanges) word = exchange(word, with);
  return word;
}

std::uint32_t fifths_to_file(std::uint32_t word) {
  for (std::size_t i = std::size(kExchanges); i-- > 0;) word = exchange(word, kExchanges[i]);
  return word;
}

// How a format's file block maps to its packed superblock: `words` words from byte `at` on, `blocks` blocks each.
template <class FileBlock, class PackedSuperblock, std::size_t at, std::size_t words, std::size_t blocks>
struct Words {
  using Block = FileBlock;
  using Superblock = PackedSuperblock;
  static constexpr std::size_t kAt = at, kWords = words, kBlocks = blocks;
  static constexpr std::uint32_t kFlip = 0;      // of each word
  static constexpr std::size_t kFifths = words;  // the word that holds fifth bits, if there is one
};
// Two blocks, the scale before the words: quants[block][word].
template <class FileBlock, class PackedSuperblock>
struct PackPair : Words<FileBlock, PackedSuperblock, 2, (sizeof(FileBlock) - 2) / 4, kSuperblockBlocks> {
  static std::uint16_t* scale(PackedSuperblock& superblock, std::size_t side) { return superblock.scale[side]; }
  static std::uint8_t* lines(PackedSuperblock& superblock, std::size_t side) { return superblock.quants[side][0]; }
};
// One block of words.
template <class FileBlock, class PackedSuperblock>
struct PackWhole : Words<FileBlock, PackedSuperblock, 0, sizeof(FileBlock) / 4, 1> {
  static std::uint8_t* lines(PackedSuperblock& superblock, std::size_t) {
    return reinterpret_cast<std::uint8_t*>(&superblock);
  }
};
// One block of words, the scale behind them.
template <class FileBlock, class PackedSuperblock>
struct PackTailed : PackWhole<FileBlock, PackedSuperblock> {
  static std::uint16_t* scale(PackedSuperblock& superblock, std::size_t) { return superblock.scale; }
};

using PackQ4_0 = PackPair<Q4_0, Q4Superblock>;
using PackIQ4_NL = PackPair<IQ4_NL, Q4Superblock>;
struct PackQ5_0 : PackPair<Q5_0, Q5Superblock> {
  static constexpr std::size_t kFifths = 0;
};
struct PackQ8_0 : PackPair<Q8_0, Q8Superblock> {
  static constexpr std::uint32_t kFlip = 0x80808080;
};
using PackQ4_1 = PackWhole<Q4_1, Q4_1Superblock>;
using PackQ4_Z = PackWhole<Q4_Z, Q4_1Superblock>;
struct PackQ5_1 : PackWhole<Q5_1, Q5_1Superblock> {
  static constexpr std::size_t kFifths = 1;
};
using PackQ2_K = PackWhole<Q2_K, Q2KSuperblock>;
using PackQ3_K = PackTailed<Q3_K, Q3KSuperblock>;
using PackQ4_K = PackWhole<Q4_K, Q4KSuperblock>;
using PackQ5_K = PackWhole<Q5_K, Q5KSuperblock>;
using PackQ6_K = PackTailed<Q6_K, Q6KSuperblock>;

std::uint32_t word_at(const std::uint8_t* from) {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}
void put_word(std::uint8_t* to, std::uint32_t word) { std::memcpy(to, &word, sizeof word); }

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
  using Block = typename Format::Block;
  using Superblock = typename Format::Superblock;
  static constexpr std::size_t kWords = Format::kWords;
  // Where a block of a file has the scale that is not part of a word: before its words or behind them.
  static constexpr std::size_t kScaleAt = Format::kAt == 0 ? 4 * kWords : 0;
  static constexpr bool kScale = sizeof(Block) % 4 != 0;

  // Rows [lane, lane + count) of one panel, from `count` rows of a file.
  static void pack(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count,
                   const std::uint8_t* source) {
    const std::size_t blocks = cols * Format::kBlocks / Superblock::kCols, row = blocks * sizeof(Block);
    for (std::size_t b = 0; b < blocks; ++b, source += sizeof(Block)) {
      Superblock& superblock = reinterpret_cast<Superblock*>(panel)[b / Format::kBlocks];
      const std::size_t side = b % Format::kBlocks;
      if constexpr (kScale) {
        std::uint16_t* scale = Format::scale(superblock, side) + lane;
        for (std::size_t r = 0; r < count; ++r) std::memcpy(&scale[r], source + r * row + kScaleAt, 2);
      }
      std::uint8_t* lines = Format::lines(superblock, side) + 4 * lane;
      const std::uint8_t* words = source + Format::kAt;
      std::size_t r = 0;
      for (; r + 4 <= count; r += 4) pack_four(lines + 4 * r, words + r * row, row);
      for (; r < count; ++r) {
        for (std::size_t g = 0; g < kWords; ++g) {
          put_word(lines + g * kLine + 4 * r, to_panel(word_at(words + r * row + 4 * g), g));
        }
      }
    }
  }

  // The words of one block of four rows, `row` bytes apart. Where they are no whole squares, the last two overlap.
  static void pack_four(std::uint8_t* lines, const std::uint8_t* source, std::size_t row) {
    static_assert(kWords >= 4);
    const __m128i flip = _mm_set1_epi32(static_cast<int>(Format::kFlip));
    for (std::size_t next = 0; next < kWords; next += 4) {
      const std::size_t g = std::min(next, kWords - 4);
      __m128i words[4];
      for (std::size_t r = 0; r < 4; ++r) words[r] = _mm_xor_si128(load(source + r * row + 4 * g), flip);
      transpose(words);
      for (std::size_t i = 0; i < 4; ++i) store(lines + (g + i) * kLine, words[i]);
    }
    if constexpr (Format::kFifths < kWords) {
      std::uint8_t* fifths = lines + Format::kFifths * kLine;
      for (std::size_t r = 0; r < 4; ++r) put_word(fifths + 4 * r, fifths_to_panel(word_at(fifths + 4 * r)));
    }
  }

  static void unpack(const std::uint8_t* panel, std::size_t cols, std::size_t lane, std::uint8_t* out) {
    const std::size_t blocks = cols * Format::kBlocks / Superblock::kCols;
    for (std::size_t b = 0; b < blocks; ++b) unpack_block(panel, b, lane, out + b * sizeof(Block));
  }

  static void unpack_block(const std::uint8_t* panel, std::size_t block, std::size_t lane, std::uint8_t* out) {
    // The accessors are those of packing; nothing is written through them here.
    Superblock& superblock = reinterpret_cast<Superblock*>(const_cast<std::uint8_t*>(panel))[block / Format::kBlocks];
    const std::size_t side = block % Format::kBlocks;
    if constexpr (kScale) std::memcpy(out + kScaleAt, Format::scale(superblock, side) + lane, 2);
    const std::uint8_t* lines = Format::lines(superblock, side) + 4 * lane;
    for (std::size_t g = 0; g < kWords; ++g) {
      const std::uint32_t word = word_at(lines + g * kLine);
      put_word(out + Format::kAt + 4 * g, g == Format::kFifths ? fifths_to_file(word) : word ^ Format::kFlip);
    }
  }

  static std::uint32_t to_panel(std::uint32_t word, std::size_t g) {
    return g == Format::kFifths ? fifths_to_panel(word) : word ^ Format::kFlip;
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
  // Writes one of a row's blocks; of the quantised formats alone.
  void (*unpack_block)(const std::uint8_t* panel, std::size_t block, std::size_t lane, std::uint8_t* out);
  std::size_t superblock_cols, superblock_bytes;
};

template <class Word>
constexpr Packing kFloats = {Floats<Word>::pack, Floats<Word>::unpack, nullptr, 1, kPanelRows * sizeof(Word)};

template <class Format>
constexpr Packing kQuantised = {Quantised<Format>::pack, Quantised<Format>::unpack, Quantised<Format>::unpack_block,
                                Format::Superblock::kCols, sizeof(typename Format::Superblock)};

const Packing& packing(cria_type type) {
  switch (type) {
    case CRIA_TYPE_F32:
      return kFloats<std::uint32_t>;
    case CRIA_TYPE_Q4_0:
      return kQuantised<PackQ4_0>;
    case CRIA_TYPE_Q4_1:
      return kQuantised<PackQ4_1>;
    case CRIA_TYPE_Q5_0:
      return kQuantised<PackQ5_0>;
    case CRIA_TYPE_Q5_1:
      return kQuantised<PackQ5_1>;
    case CRIA_TYPE_Q8_0:
      return kQuantised<PackQ8_0>;
    case CRIA_TYPE_Q2_K:
      return kQuantised<PackQ2_K>;
    case CRIA_TYPE_Q3_K:
      return kQuantised<PackQ3_K>;
    case CRIA_TYPE_Q4_K:
      return kQuantised<PackQ4_K>;
    case CRIA_TYPE_Q5_K:
      return kQuantised<PackQ5_K>;
    case CRIA_TYPE_Q6_K:
      return kQuantised<PackQ6_K>;
    case CRIA_TYPE_IQ4_NL:
      return kQuantised<PackIQ4_NL>;
    case CRIA_TYPE_Q4_Z:
      return kQuantised<PackQ4_Z>;
    default:
      return kFloats<std::uint16_t>;
  }
}

}  // namespace

std::size_t panel_bytes(cria_type type, std::size_t cols) {
  require(cols % weight_format(type).block == 0, "cols",
          "a multiple of " + std::to_string(weight_format(type).block) + " in " + weight_format(type).name, cols);
  const Packing& format = packing(type);
  const std::size_t superblocks = cols / format.superblock_cols + (cols % format.superblock_cols != 0);
  const std::size_t most = std::numeric_limits<std::size_t>::max() / format.superblock_bytes;
  require(superblocks <= most, "cols", "few enough for 16 rows to fit the address space", cols);
  return superblocks * format.superblock_bytes;
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

void unpack_block(const Panels& panels, std::size_t row, std::size_t block, std::uint8_t* out) {
  const std::uint8_t* panel = panels.data + row / kPanelRows * panel_bytes(panels.type, panels.cols);
  packing(panels.type).unpack_block(panel, block, row % kPanelRows, out);
}

}  // namespace cria::cpu
