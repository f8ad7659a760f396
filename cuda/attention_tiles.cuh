// Tiles of binary16 in shared memory, as ldmatrix reads them, and the keys and values of a sequence passing through two
// of them.
//
// A row of kDim elements is kDim / 8 chunks of 16 bytes, chunk c of row r standing at place c ^ (r % 8):
//
//     row 0    c0 c1 c2 c3 c4 c5 c6 c7 ...
//     row 1    c1 c0 c3 c2 c5 c4 c7 c6 ...
//     row 2    c2 c3 c0 c1 c6 c7 c4 c5 ...
//
// so that the eight rows of one chunk, which ldmatrix reads at once, stand in all 32 banks, though rows are a multiple
// of 128 bytes apart; and so do the chunks of one row, which cp.async writes.
#pragma once

#include <cstring>

#include "attention.h"
#include "cuda.cuh"
#include "kv.cuh"
#include "ptx.cuh"

namespace cria::cuda {

template <int kDim>
struct HalfTile {
  static constexpr int kChunks = kDim / 8;
  uint4* shared;  // chunks
  int first;      // of them: a multiple of kChunks

  __device__ uint4* at(int row, int chunk) const { return shared + first + row * kChunks + (chunk ^ row % 8); }
};

// The addresses that a lane brings to ldmatrix, for 16 rows and 16 columns at a time. Rows and chunks are even eights
// and twos, so a step in columns is one XOR, and one in rows goes into the instruction.
template <int kDim>
struct LaneMatrix {
  const uint4* shared;
  int lane;  // the chunk of the first 16 rows and columns

  __device__ const uint4* at(int row, int chunk) const {
    return shared + (lane ^ chunk) + row * HalfTile<kDim>::kChunks;
  }
};

// In the order of an A operand's registers, and, transposed, of two B operands':
//     0 2
//     1 3
template <int kDim>
__device__ inline LaneMatrix<kDim> down_first(HalfTile<kDim> tile) {
  const int row = threadIdx.x % 16, chunk = threadIdx.x % 32 / 16;
  return {tile.shared, tile.first + row * HalfTile<kDim>::kChunks + (chunk ^ row % 8)};
}
// In the order of two B operands' registers, each 8 rows:
//     0 1
//     2 3
template <int kDim>
__device__ inline LaneMatrix<kDim> across_first(HalfTile<kDim> tile) {
  const int row = threadIdx.x % 8 + threadIdx.x % 32 / 16 * 8, chunk = threadIdx.x / 8 % 2;
  return {tile.shared, tile.first + row * HalfTile<kDim>::kChunks + (chunk ^ row % 8)};
}

__device__ inline std::uint32_t pack_halves(float low, float high) {
  const __half2 halves = __floats2half2_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &halves, sizeof bits);
  return bits;
}

// Two quants, bytes kFirst and kFirst + 1 of four that were turned into unsigned ones by their sign bit, times their
// scale. 0x64 before a byte u makes binary16's 1024 + u; 1152 less is the quant. The product is rounded once.
template <int kFirst>
__device__ inline std::uint32_t widen_quants(std::uint32_t bytes, __half2 scale) {
  std::uint32_t bits = __byte_perm(bytes, 0x64646464, 0x4040 | kFirst | (kFirst + 1) << 8);
  __half2 pair;
  memcpy(&pair, &bits, sizeof bits);
  pair = __hmul2(__hsub2(pair, __float2half2_rn(1152.0f)), scale);
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// The blocks of a tile's keys. A split's are 128 bytes of the block table, mostly in L1; of keys from `end` on, which
// nobody reads, block 0.
struct TileBlocks {
  static constexpr int kBlocks = kKeyTile / kKvBlock;
  int blocks[kBlocks];

  __device__ TileBlocks(const std::int32_t* table, int tile, int end) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int i = tile * kBlocks + b;
      blocks[b] = i * kKvBlock < end ? table[i] : 0;
    }
  }
};

// K or V of one head of a sequence, 64 keys at a time. In shared memory:
//
//     f16     tile  | tile         one used, one on its way
//     q8_0    tile  | raw  | raw   one raw, as it is stored, widened to the tile; one on its way
//
// Keys from `end` on and dimensions from head_dim on are 0.
template <int kDim, int kThreads>
class KeyTiles {
 public:
  static constexpr int kTileChunks = kKeyTile * HalfTile<kDim>::kChunks;
  static constexpr int kRawChunks = kKeyTile * kDim * 17 / 16 / 16;  // with a scale, 2 bytes, for each 32 quants
  static constexpr int kSharedChunks = kTileChunks + 2 * kRawChunks;
  static_assert(kRawChunks * 2 >= kTileChunks, "a second tile fits in the place of both raws");

  __device__ KeyTiles(const KvLayer& cache, const KvSide& side, int head, int end, uint4* shared)
      : cache_(cache), side_(side), head_(head), end_(end), shared_(shared) {}

  __device__ bool quantised() const { return side_.type == CRIA_TYPE_Q8_0; }

  // Starts the copies of keys [64 tile, 64 tile + 64), which stand in `blocks`.
  __device__ void fetch(int tile, const TileBlocks& blocks) const {
#pragma unroll
    for (int b = 0; b < TileBlocks::kBlocks; ++b) {
      const std::uint8_t* block = kv_head(cache_, side_, blocks.blocks[b], head_);
      const int keys = end_ - tile * kKeyTile - b * kKvBlock;
      if (!quantised()) {
        fetch_halves(ready(tile), b, block, keys);
      } else if (keys > 0) {
        fetch_quants(raw(tile), b, block);
      }
    }
  }

  // Of a q8_0 cache: makes the tile from what has arrived.
  __device__ void widen(int tile) const {
    const int dim = cache_.head_dim, block_bytes = kv_q8_bytes(dim);
    auto* blocks = reinterpret_cast<std::uint8_t*>(raw(tile));
#pragma unroll 4
    for (int c = thread_index(); c < kTileChunks; c += kThreads) {
      const int row = c / kChunks, chunk = c % kChunks, place = row % kKvBlock;
      uint4 halves = {0, 0, 0, 0};
      if (tile * kKeyTile + row < end_ && chunk * 8 < dim) {
        std::uint8_t* block = blocks + row / kKvBlock * block_bytes;
        const uint2 quants = *reinterpret_cast<const uint2*>(block + place * dim + chunk * 8);
        const std::uint16_t scale = kv_scales(block, dim)[chunk * 8 / kKvGroup * kKvBlock + place];
        halves = widen_eight(quants, __half2half2(__ushort_as_half(scale)));
      }
      *ready(tile).at(row, chunk) = halves;
    }
  }

  __device__ HalfTile<kDim> ready(int tile) const { return {shared_, quantised() ? 0 : tile % 2 * kTileChunks}; }

 private:
  static constexpr int kChunks = HalfTile<kDim>::kChunks;

  __device__ uint4* raw(int tile) const { return shared_ + kTileChunks + tile % 2 * kRawChunks; }

  // Block b of a tile, of which `keys` are there.
  __device__ void fetch_halves(HalfTile<kDim> tile, int b, const std::uint8_t* block, int keys) const {
    const int thread = thread_index();
#pragma unroll
    for (int i = 0; i < (kKvBlock * kChunks + kThreads - 1) / kThreads; ++i) {
      const int c = thread + i * kThreads, row = c / kChunks, chunk = c % kChunks;
      if (row >= kKvBlock) continue;
      const bool valid = row < keys && chunk * 8 < cache_.head_dim;
      const int from = valid ? (row * cache_.head_dim + chunk * 8) * 2 : 0;
      cp_async_16(tile.at(b * kKvBlock + row, chunk), block + from, valid);
    }
  }

  __device__ void fetch_quants(uint4* raw, int b, const std::uint8_t* block) const {
    const int chunks = kv_q8_bytes(cache_.head_dim) / 16;
    for (int c = thread_index(); c < chunks; c += kThreads) cp_async_16(raw + b * chunks + c, block + c * 16);
  }

  __device__ static uint4 widen_eight(uint2 quants, __half2 scale) {
    const std::uint32_t low = quants.x ^ 0x80808080, high = quants.y ^ 0x80808080;
    return {widen_quants<0>(low, scale), widen_quants<2>(low, scale), widen_quants<0>(high, scale),
            widen_quants<2>(high, scale)};
  }

  const KvLayer& cache_;
  const KvSide& side_;
  int head_;
  int end_;
  uint4* shared_;
};

}  // namespace cria::cuda
