// Four words of a row, half a piece, are the unit that every format but f32 is moved in: a block of q4_0, half a block
// of q8_0, eight columns of f16 or bf16.
//
// Bound by memory: a tile's 16 rows come one after another, and the tile, 32 KiB of q4_0 at 4096 columns, stays in L2
// until they have filled it.
#include "pack.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "../core/checked.h"
#include "../core/error.h"
#include "../core/k_scales.h"

namespace cria::cuda {
namespace {

constexpr std::size_t kTileRows = 16;
constexpr std::size_t kHalf = 16;  // bytes of half a piece
constexpr std::size_t kFragment = kTileRows * 2 * kHalf;
constexpr std::size_t kSuperblockBlocks = 2;

constexpr std::size_t divide_up(std::size_t value, std::size_t by) { return value / by + (value % by != 0); }

std::size_t superblocks(std::size_t cols) { return divide_up(cols, kSuperblockBlocks * kBlock); }

// Behind the fragment of a superblock: a lane's bits above its nibbles.
constexpr std::size_t kLanes = 32, kFifths = kLanes * 4, kPairs = kLanes * 8;

// Bytes of a tile's quants.
std::size_t tile_bytes(cria_type type, std::size_t cols) {
  switch (type) {
    case CRIA_TYPE_Q4_0:
    case CRIA_TYPE_Q4_K:
      return checked_product({superblocks(cols), kFragment});
    case CRIA_TYPE_Q5_K:
      return checked_product({superblocks(cols), kFragment + kFifths});
    case CRIA_TYPE_Q6_K:
      return checked_product({superblocks(cols), kFragment + kPairs});
    case CRIA_TYPE_Q8_0:
      return checked_product({superblocks(cols), kSuperblockBlocks, kFragment});
    default:
      return checked_product({divide_up(row_bytes(type, cols), 2 * kHalf), kFragment});
  }
}

bool is_k_quant(cria_type type) { return type == CRIA_TYPE_Q4_K || type == CRIA_TYPE_Q5_K || type == CRIA_TYPE_Q6_K; }

// binary16s that a tile's scales take, with the bases of K-quants, which stand once for four superblocks.
constexpr std::size_t kBaseSuperblocks = kBlockK / (kSuperblockBlocks * kBlock);
std::size_t tile_scales(cria_type type, std::size_t cols) {
  const std::size_t n = superblocks(cols), bases = is_k_quant(type) ? n / kBaseSuperblocks : 0;
  return (n + bases) * kTileRows * kSuperblockBlocks;
}

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

// --- K-quants: a block of 256 as its quants, its integer scales and its binary16s, and where each stands in a tile

// Four bytes of scales for 64 columns, as pack.h has them.
using ScaleBytes = std::uint8_t[4];

struct KBlock {
  std::uint8_t quants[kBlockK];
  ScaleBytes scales[kBaseSuperblocks];
  std::uint8_t base[4];
};

// Weight k's nibble in a q4_K or q5_K block: byte of the pair of groups of 32, low or high.
constexpr std::size_t nibble_byte(std::size_t k) { return k / 64 * 32 + k % 32; }
constexpr std::size_t nibble_shift(std::size_t k) { return k / 32 % 2 * 4; }

// The scales of a q4_K or q5_K block.
template <class Block>
void take_scales(const Block& block, KBlock& parts) {
  for (std::size_t group = 0; group < 8; ++group) {
    const ScaleAndMinimum of = scales_of(block.scales, group);
    parts.scales[group / 2][group % 2] = static_cast<std::uint8_t>(of.scale);
    parts.scales[group / 2][2 + group % 2] = static_cast<std::uint8_t>(of.minimum);
  }
  std::memcpy(parts.base, block.scale, 2);
  std::memcpy(parts.base + 2, block.least, 2);
}

template <class Block>
void put_scales(const KBlock& parts, Block& block) {
  ScaleAndMinimum groups[8];
  for (std::size_t group = 0; group < 8; ++group) {
    groups[group] = {parts.scales[group / 2][group % 2], parts.scales[group / 2][2 + group % 2]};
  }
  cria::put_scales(groups, block.scales);
  std::memcpy(block.scale, parts.base, 2);
  std::memcpy(block.least, parts.base + 2, 2);
}

KBlock taken_apart(const Q4_K& block) {
  KBlock parts{};
  for (std::size_t k = 0; k < kBlockK; ++k) parts.quants[k] = block.nibbles[nibble_byte(k)] >> nibble_shift(k) & 15;
  take_scales(block, parts);
  return parts;
}

void put_together(const KBlock& parts, Q4_K& block) {
  for (std::size_t k = 0; k < kBlockK; ++k) block.nibbles[nibble_byte(k)] |= parts.quants[k] << nibble_shift(k);
  put_scales(parts, block);
}

KBlock taken_apart(const Q5_K& block) {
  KBlock parts{};
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const int fifth = block.fifths[k % 32] >> k / 32 & 1;
    parts.quants[k] = static_cast<std::uint8_t>((block.nibbles[nibble_byte(k)] >> nibble_shift(k) & 15) | fifth << 4);
  }
  take_scales(block, parts);
  return parts;
}

void put_together(const KBlock& parts, Q5_K& block) {
  for (std::size_t k = 0; k < kBlockK; ++k) {
    block.nibbles[nibble_byte(k)] |= (parts.quants[k] & 15) << nibble_shift(k);
    block.fifths[k % 32] |= parts.quants[k] >> 4 << k / 32;
  }
  put_scales(parts, block);
}

KBlock taken_apart(const Q6_K& block) {
  KBlock parts{};
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const int low = block.nibbles[k / 128 * 64 + k % 64] >> k / 64 % 2 * 4 & 15;
    const int pair = block.pairs[k / 128 * 32 + k % 32] >> k / 32 % 4 * 2 & 3;
    parts.quants[k] = static_cast<std::uint8_t>(low | pair << 4);
  }
  std::memcpy(parts.scales, block.scales, sizeof parts.scales);
  std::memcpy(parts.base, block.scale, 2);
  return parts;
}

void put_together(const KBlock& parts, Q6_K& block) {
  for (std::size_t k = 0; k < kBlockK; ++k) {
    block.nibbles[k / 128 * 64 + k % 64] |= (parts.quants[k] & 15) << k / 64 % 2 * 4;
    block.pairs[k / 128 * 32 + k % 32] |= parts.quants[k] >> 4 << k / 32 % 4 * 2;
  }
  std::memcpy(block.scales, parts.scales, sizeof parts.scales);
  std::memcpy(block.scale, parts.base, 2);
}

// Where weight k of a superblock of 64 columns stands: register r (pack.h) of block b, byte j of lane t's word, of
// which it has the low nibble or the high one.
struct KPlace {
  explicit KPlace(std::size_t row, std::size_t k)
      : block(k / 32),
        high(k / 16 % 2),
        reg(2 * high + row % kTileRows / 8),
        lane(row % 8 * 4 + k % 16 / 4),
        byte(k % 4),
        nibble(lane * 16 + block * 8 + row % kTileRows / 8 * 4 + byte) {}

  std::size_t block, high, reg, lane, byte;
  std::size_t nibble;  // in the fragment
};

// Bits above a nibble: where the first stands behind the fragment, and how many there are.
struct KUpper {
  std::size_t byte, shift;
};
template <class Block>
struct KBits;
template <>
struct KBits<Q4_K> {
  static constexpr std::size_t kBytes = 0, kMask = 0;
  static KUpper upper(const KPlace&) { return {}; }
};
template <>
struct KBits<Q5_K> {
  static constexpr std::size_t kBytes = kFifths, kMask = 1;
  static KUpper upper(const KPlace& at) { return {at.lane * 4 + at.byte, 4 * at.block + at.reg}; }
};
template <>
struct KBits<Q6_K> {
  static constexpr std::size_t kBytes = kPairs, kMask = 3;
  static KUpper upper(const KPlace& at) { return {at.lane * 8 + at.block * 4 + at.byte, 2 * at.reg}; }
};

// A row of K-quants: to and from place `row` of a tile, whose bytes are zeros there before.
template <class Block>
struct KQuants {
  using Bits = KBits<Block>;
  static constexpr std::size_t kSuperblockBytes = kFragment + Bits::kBytes;

  static std::size_t base_place(std::size_t cols, std::size_t row, std::size_t block) {
    return scale_place(row, (superblocks(cols) + block) * kSuperblockBlocks);
  }

  static void pack(Tile tile, std::size_t cols, std::size_t row, const std::uint8_t* source) {
    for (std::size_t b = 0; b < cols / kBlockK; ++b, source += sizeof(Block)) {
      Block block;
      std::memcpy(&block, source, sizeof block);
      const KBlock parts = taken_apart(block);
      std::memcpy(tile.scales + base_place(cols, row, b), parts.base, 4);
      for (std::size_t i = 0; i < kBaseSuperblocks; ++i) {
        const std::size_t superblock = b * kBaseSuperblocks + i;
        std::memcpy(tile.scales + scale_place(row, superblock * kSuperblockBlocks), parts.scales[i], 4);
        put(tile.quants + superblock * kSuperblockBytes, row, parts.quants + i * 64);
      }
    }
  }

  static void unpack(ConstTile tile, std::size_t cols, std::size_t row, std::uint8_t* out) {
    for (std::size_t b = 0; b < cols / kBlockK; ++b, out += sizeof(Block)) {
      KBlock parts{};
      std::memcpy(parts.base, tile.scales + base_place(cols, row, b), 4);
      for (std::size_t i = 0; i < kBaseSuperblocks; ++i) {
        const std::size_t superblock = b * kBaseSuperblocks + i;
        std::memcpy(parts.scales[i], tile.scales + scale_place(row, superblock * kSuperblockBlocks), 4);
        get(parts.quants + i * 64, tile.quants + superblock * kSuperblockBytes, row);
      }
      Block block{};
      put_together(parts, block);
      std::memcpy(out, &block, sizeof block);
    }
  }

 private:
  // A row may be packed anew: what it had is taken out first.
  static void put(std::uint8_t* superblock, std::size_t row, const std::uint8_t* quants) {
    for (std::size_t k = 0; k < 64; ++k) {
      const KPlace at(row, k);
      set(superblock[at.nibble], 15, 4 * at.high, quants[k]);
      if constexpr (Bits::kMask != 0) {
        const KUpper upper = Bits::upper(at);
        set(superblock[kFragment + upper.byte], Bits::kMask, upper.shift, quants[k] >> 4);
      }
    }
  }

  static void get(std::uint8_t* quants, const std::uint8_t* superblock, std::size_t row) {
    for (std::size_t k = 0; k < 64; ++k) {
      const KPlace at(row, k);
      quants[k] = superblock[at.nibble] >> 4 * at.high & 15;
      if constexpr (Bits::kMask != 0) {
        const KUpper upper = Bits::upper(at);
        quants[k] |= (superblock[kFragment + upper.byte] >> upper.shift & Bits::kMask) << 4;
      }
    }
  }

  static void set(std::uint8_t& byte, std::size_t mask, std::size_t shift, int value) {
    const auto wide = static_cast<unsigned>(value) & static_cast<unsigned>(mask);
    byte = static_cast<std::uint8_t>((byte & ~(mask << shift)) | wide << shift);
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
    case CRIA_TYPE_Q4_K:
      return kPacking<KQuants<Q4_K>>;
    case CRIA_TYPE_Q5_K:
      return kPacking<KQuants<Q5_K>>;
    case CRIA_TYPE_Q6_K:
      return kPacking<KQuants<Q6_K>>;
    default:
      return kPacking<Halves>;
  }
}

}  // namespace

void require_layout(cria_type type) {
  if (!is_quantised(type) || type == CRIA_TYPE_Q4_0 || type == CRIA_TYPE_Q8_0 || is_k_quant(type)) return;
  throw Error(CRIA_ERROR_UNSUPPORTED,
              std::string("type: must be f32, f16, bf16, q4_0, q8_0, q4_K, q5_K or q6_K on a GPU, not ") +
                  weight_format(type).name);
}

std::size_t quants_bytes(cria_type type, std::size_t rows, std::size_t cols) {
  const std::size_t row = row_bytes(type, cols);  // and with it cols * 2 fits a size_t
  if (type == CRIA_TYPE_F32) return checked_product({rows, row});
  return checked_product({divide_up(rows, kTileRows), tile_bytes(type, cols)});
}

std::size_t scales_bytes(cria_type type, std::size_t rows, std::size_t cols) {
  if (!is_quantised(type)) return 0;
  row_bytes(type, cols);  // throws where it is not a whole number of blocks
  return checked_product({divide_up(rows, kTileRows), tile_scales(type, cols), sizeof(std::uint16_t)});
}

void pack_rows(cria_type type, std::uint8_t* quants, std::uint16_t* scales, std::size_t cols, std::size_t row,
               std::size_t count, const std::uint8_t* source) {
  const std::size_t source_row = row_bytes(type, cols);
  if (type == CRIA_TYPE_F32) {
    std::memcpy(quants + row * source_row, source, count * source_row);
    return;
  }
  const Packing& format = packing(type);
  const std::size_t tile_quants = tile_bytes(type, cols);
  for (; count > 0; --count, ++row, source += source_row) {
    const std::size_t tile = row / kTileRows;
    format.pack({quants + tile * tile_quants, scales + tile * tile_scales(type, cols)}, cols, row, source);
  }
}

void unpack_row(cria_type type, const std::uint8_t* quants, const std::uint16_t* scales, std::size_t cols,
                std::size_t row, std::uint8_t* out) {
  if (type == CRIA_TYPE_F32) {
    std::memcpy(out, quants + row * row_bytes(type, cols), row_bytes(type, cols));
    return;
  }
  const std::size_t tile = row / kTileRows;
  packing(type).unpack({quants + tile * tile_bytes(type, cols), scales + tile * tile_scales(type, cols)}, cols, row,
                       out);
}

}  // namespace cria::cuda
