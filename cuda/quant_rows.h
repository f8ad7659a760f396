// Quantised activations on the device: the quants and scales of csrc/cpu/quantize.h, bit for bit, laid out so that 16
// bytes, a row's share of half a block, are one unit of ldmatrix, of cp.async and of a wgmma core matrix:
//
//     quants   [chunk of 16 columns][row][16]      int8      chunks = 4 ceil(cols / 64)
//     scales   [block of 32 columns][row]          f32       blocks = 2 ceil(cols / 64)
//
//                 row 0          row 1         ...  row capacity - 1
//     chunk 0   | k 0 ... 15   | k 0 ... 15   |          |     eight rows of a chunk are 128 bytes in a row: ldmatrix
//     chunk 1   | k 16 ... 31  | k 16 ... 31  |          |     reads them without a bank conflict, and they are the
//     chunk 2   | k 32 ... 47  | ...                           8 x 16 bytes of wgmma's unswizzled K-major layout
//
// Columns past the end are zeros, and the blocks of nothing but those have the scale 0. There are no seeds: the device
// holds its int4 weights as two's complement, so no zero point has to be taken out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "both.h"

namespace cria::cuda {

constexpr int kQuantChunk = 16;  // columns
constexpr int kQuantBlock = 32;  // columns that share a scale
constexpr int kSuperblock = 64;  // columns that rows are filled up to

struct QuantRows {
  std::int8_t* quants;
  float* scales;
  int capacity;  // rows from chunk to chunk and from block to block
};

CRIA_BOTH inline std::size_t superblocks(std::size_t cols) { return (cols + kSuperblock - 1) / kSuperblock; }

}  // namespace cria::cuda
