// Four words of a row, half a piece, are the unit that every format but f32 is moved in: a block of q4_0, half a block
// of q8_0, eight columns of f16 or bf16.
//
// Bound by memory: a tile's 16 rows come one after another, and the tile, 32 KiB of q4_0 at 4096 columns, stays in L2
// until they have filled it.
#include "pack.h"

#include <algorithm>
#include <cstring>

#include "../core/checked.h"

namespace cria::cuda {
namespace {

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kHalf = 16;  // bytes of half a piece
constexpr std::size_t kFragment = kTileRows * 2 * kHalf;
constexpr std::size_t kSuperblockBlocks = 2;

constexpr std::size_t divide_up(std::size_t value, std::size_t by) { return value / by + (value % by != 0); }

std::size_t superblocks(std::size_t cols) { return divide_up(cols, kSuperblockBlocks * kBlock); }

// Fragments of a tile, and binary16s that a tile's scales take.
std::size_t fragments(cria_type type, std::size_t cols) {
  switch (type) {
    case CRIA_TYPE_Q4_0:
      return superblocks(cols);
    case CRIA_TYPE_Q8_0:
      return superblocks(cols) * kSuperblockBlocks;
    default:
      return divide_up(row_bytes(type, cols), 2 * kHalf);
  }
}
std::size_t tile_scales(std::size_t cols) { return superblocks(cols) * kTileRows * kSuperblockBlocks; }

// Where half piece `half` of a row begins, counted from the row's first, in a tile; its words are 16 bytes apart.
constexpr std::size_t kWordStep = 16;
std::size_t half_place(std::size_t row, std::size_t half) {
  return half / 2 * kFragment + row % 8 * 64 + half % 2 * 8 + row % kTileRows / 8 * 4;
}
std::size_t scale_place(std::size_t row, std::size_t block) {
  return (block / kSuperblockBlocks * kTileRows + row % kTileRows) * kSuperblockBlocks + block % kSuperblockBlocks;
}

// How a half piece's words differ from a file's. A file's q4_0 nibbles are offset by 8, and u - 8 is u with its top bit
// flipped; its weight k + 16 stands in the nibble above weight k, as here.
constexpr std::uint32_t kAsInFile = 0, kFlipNibbles = 0x88888888;

void put_half(std::uint8_t* to, const std::uint8_t* from, std::uint32_t flip) {
  for (std::size_t w = 0; w < 4; ++w) {
    std::uint32_t word;
    std::memcpy(&word, from + 4 * w, sizeof word);
    word ^= flip;
    std::memcpy(to + kWordStep * w, &word, sizeof word);
  }
}

void get_half(std::uint8_t* to, const std::uint8_t* from, std::uint32_t flip) {
  for (std::size_t w = 0; w < 4; ++w) {
    std::uint32_t word;
    std::memcpy(&word, from + kWordStep * w, sizeof word);
    word ^= flip;
    std::memcpy(to + 4 * w, &word, sizeof word);
  }
}

struct Tile {
  std::uint8_t* quants;
  std::uint16_t* scales;
};
struct ConstTile {
  const std::uint8_t* quants;
  const std::uint16_t* scales;
};

// A format's rows: to and from place `row` of a tile.
template <class Block, std::uint32_t kFlip>
struct Quantised {
  static constexpr std::size_t kHalves = (sizeof(Block) - 2) / kHalf;

  static void pack(Tile tile, std::size_t cols, std::size_t row, const std::uint8_t* source) {
    for (std::size_t b = 0; b < cols / kBlock; ++b, source += sizeof(Block)) {
      std::memcpy(tile.scales + scale_place(row, b), source, 2);
      for (std::size_t h = 0; h < kHalves; ++h) {
        put_half(tile.quants + half_place(row, b * kHalves + h), source + 2 + h * kHalf, kFlip);
      }
    }
  }

  static void unpack(ConstTile tile, std::size_t cols, std::size_t row, std::uint8_t* out) {
    for (std::size_t b = 0; b < cols / kBlock; ++b, out += sizeof(Block)) {
      std::memcpy(out, tile.scales + scale_place(row, b), 2);
      for (std::size_t h = 0; h < kHalves; ++h) {
        get_half(out + 2 + h * kHalf, tile.quants + half_place(row, b * kHalves + h), kFlip);
      }
    }
  }
};

// f16 and bf16: the last half piece may be part of one.
struct Halves {
  static void pack(Tile tile, std::size_t cols, std::size_t row, const std::uint8_t* source) {
    const std::size_t bytes = cols * 2, whole = bytes / kHalf;
    for (std::size_t h = 0; h < whole; ++h) {
      put_half(tile.quants + half_place(row, h), source + h * kHalf, kAsInFile);
    }
    if (bytes % kHalf == 0) return;
    std::uint8_t last[kHalf] = {};
    std::memcpy(last, source + whole * kHalf, bytes % kHalf);
    put_half(tile.quants + half_place(row, whole), last, kAsInFile);
  }

  static void unpack(ConstTile tile, std::size_t cols, std::size_t row, std::uint8_t* out) {
    const std::size_t bytes = cols * 2;
    for (std::size_t h = 0; h < divide_up(bytes, kHalf); ++h) {
      std::uint8_t half[kHalf];
      get_half(half, tile.quants + half_place(row, h), kAsInFile);
      std::memcpy(out + h * kHalf, half, std::min(kHalf, bytes - h * kHalf));
    }
  }
};

struct Packing {
  void (*pack)(Tile tile, std::size_t cols, std::size_t row, const std::uint8_t* source);
  void (*unpack)(ConstTile tile, std::size_t cols, std::size_t row, std::uint8_t* out);
};

template <class Format>
constexpr Packing kPacking = {Format::pack, Format::unpack};

// Of the types that are tiled.
const Packing& packing(cria_type type) {
  switch (type) {
    case CRIA_TYPE_Q4_0:
      return kPacking<Quantised<Q4_0, kFlipNibbles>>;
    case CRIA_TYPE_Q8_0:
      return kPacking<Quantised<Q8_0, kAsInFile>>;
    default:
      return kPacking<Halves>;
  }
}

}  // namespace

std::size_t quants_bytes(cria_type type, std::size_t rows, std::size_t cols) {
  const std::size_t row = row_bytes(type, cols);  // and with it cols * 2 fits a size_t
  if (type == CRIA_TYPE_F32) return checked_product({rows, row});
  return checked_product({divide_up(rows, kTileRows), fragments(type, cols), kFragment});
}

std::size_t scales_bytes(cria_type type, std::size_t rows, std::size_t cols) {
  if (!is_quantised(type)) return 0;
  row_bytes(type, cols);  // throws where it is not a whole number of blocks
  return checked_product(
      {divide_up(rows, kTileRows), superblocks(cols), kTileRows, kSuperblockBlocks, sizeof(std::uint16_t)});
}

void pack_rows(cria_type type, std::uint8_t* quants, std::uint16_t* scales, std::size_t cols, std::size_t row,
               std::size_t count, const std::uint8_t* source) {
  const std::size_t source_row = row_bytes(type, cols);
  if (type == CRIA_TYPE_F32) {
    std::memcpy(quants + row * source_row, source, count * source_row);
    return;
  }
  const Packing& format = packing(type);
  const std::size_t tile_quants = fragments(type, cols) * kFragment;
  for (; count > 0; --count, ++row, source += source_row) {
    const std::size_t tile = row / kTileRows;
    format.pack({quants + tile * tile_quants, scales + tile * tile_scales(cols)}, cols, row, source);
  }
}

void unpack_row(cria_type type, const std::uint8_t* quants, const std::uint16_t* scales, std::size_t cols,
                std::size_t row, std::uint8_t* out) {
  if (type == CRIA_TYPE_F32) {
    std::memcpy(out, quants + row * row_bytes(type, cols), row_bytes(type, cols));
    return;
  }
  const std::size_t tile = row / kTileRows;
  packing(type).unpack({quants + tile * fragments(type, cols) * kFragment, scales + tile * tile_scales(cols)}, cols,
                       row, out);
}

}  // namespace cria::cuda
