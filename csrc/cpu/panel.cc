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
// Bound by memory: a panel's 16 source rows are read as 16 streams, and each of its lines is filled within one block's
// work, while it is in L1.
#include "panel.h"

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

template <class Format>
struct Quantised {
  // Rows [lane, lane + count) of one panel, from `count` rows of a file.
  static void pack(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count,
                   const std::uint8_t* source) {
    using Block = typename Format::Block;
    auto* superblock = reinterpret_cast<typename Format::Superblock*>(panel);
    const std::size_t blocks = cols / kBlock;
    for (std::size_t b = 0; b < blocks; ++b) {
      auto& scale = superblock[b / kSuperblockBlocks].scale[b % kSuperblockBlocks];
      auto& quants = superblock[b / kSuperblockBlocks].quants[b % kSuperblockBlocks];
      for (std::size_t r = 0; r < count; ++r) {
        const std::uint8_t* block = source + (r * blocks + b) * sizeof(Block);
        std::memcpy(&scale[lane + r], block, 2);
        for (std::size_t g = 0; g < kWords<Format>; ++g) {
          move_word(&quants[g][4 * (lane + r)], block + 2 + 4 * g, Format::kFlip);
        }
      }
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
  static void pack(std::uint8_t* panel, std::size_t cols, std::size_t lane, std::size_t count,
                   const std::uint8_t* source) {
    for (std::size_t c = 0; c < cols; ++c) {
      for (std::size_t r = 0; r < count; ++r) {
        std::memcpy(panel + (c * kPanelRows + lane + r) * sizeof(Word), source + (r * cols + c) * sizeof(Word),
                    sizeof(Word));
      }
    }
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
