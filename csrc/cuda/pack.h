// How the CUDA backend lays weights out in memory: fragments of 16 rows, in the order of the tensor cores' registers.
//
// A row of weights is cut in pieces of 8 words of 32 bits; 16 rows' pieces of the same columns are a fragment, 512
// bytes in a row, of which a lane of a warp owns 16: one load, and it has operand A of mma.m16n8k32 (int8) or
// m16n8k16 (f16), registers a0 ... a3. Lane l has g = l / 4 and t = l % 4:
//
//     word of the piece      0    1    2    3    4    5    6    7
//     row g               | a0 | a0 | a0 | a0 | a2 | a2 | a2 | a2 |
//     row g + 8           | a1 | a1 | a1 | a1 | a3 | a3 | a3 | a3 |
//     t =                    0    1    2    3    0    1    2    3         address: 16 l + 4 (number of the register)
//
//     type        columns of a piece   word w of it
//     q8_0               32            columns 4w ... 4w + 3, two's complement
//     f16, bf16          16            columns 2w, 2w + 1
//     q4_0               64            byte j: column 4t + j of a block of 32 in the low nibble, 16 + 4t + j in the
//                                      high one, as two's complement nibbles; words 0 ... 3 are the first block
//
// So of q4_0 the lane's four words are [row g, row g + 8] of the first block and of the second, and the low and the
// high nibbles of a block's two are its a0, a1 and a2, a3: as int8 times 16, `w << 4 & 0xf0f0f0f0` and
// `w & 0xf0f0f0f0`, a factor that the sums' conversion to float takes out again.
//
// A lane of q4_K, q5_K and q6_K has the nibbles of 64 columns as q4_0's, but unsigned. Behind a fragment's 512 bytes
// stand the bits above them, lane by lane, so that a shift and a mask bring four weights' to their places:
//
//     q5_K   a word: bit 4b + r of byte j is the fifth bit of byte j of register a_r of block b      128 bytes
//     q6_K   two words: bits 2r and 2r + 1 of byte j of word b, the fifth and the sixth              256 bytes
//
// Their scales are four bytes for 64 columns, as two binary16 of q4_0 are: of q4_K and q5_K the two blocks' integer
// scales and then their minima, of q6_K the four groups' scales. What these are multiplied by, two binary16 or, of
// q6_K, one and zeros, stands once for 256 columns, behind a tile's scales. In all 4.625, 5.625 and 6.625 bits a
// weight, up to an eighth of a bit more than in a file.
//
//     matrix [rows][cols]        quants                                      scales, of quantised types
//     ┌───────────────┐
//     │ row tile 0    │          [row tile][fragment]                        [row tile][superblock][row][block]
//     ├───────────────┤           fragments of a tile: of quantised types     16 rows by 2 blocks: 64 bytes, one cache
//     │ row tile 1    │           those of ceil(cols / 64) superblocks,       line that a quad of lanes reads 8 bytes
//     ├───────────────┤           of f16 and bf16 ceil(cols / 16)             of (rows g and g + 8)
//     │ ...           │
//     └───────────────┘
//
// Rows past the end, and columns past it, are zeros. f32 weights meet no tensor core and stay rows as they are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/weights.h"

namespace cria::cuda {

// Throws CRIA_ERROR_UNSUPPORTED for a quantised type that has neither a layout on a GPU nor kernels.
void require_layout(cria_type type);

// Bytes of the two arrays that hold a matrix; of the second there are none but for quantised types. Throw where the
// size does not fit a size_t, or a row is not a whole number of blocks.
std::size_t quants_bytes(cria_type type, std::size_t rows, std::size_t cols);
std::size_t scales_bytes(cria_type type, std::size_t rows, std::size_t cols);

// Puts `count` rows of `cols` weights, as they stand in a file (core/weights.h), at rows [row, row + count) of the two
// arrays, which are zeros before the first rows come. Rows of one tile may come from several calls, but not at the same
// time.
void pack_rows(cria_type type, std::uint8_t* quants, std::uint16_t* scales, std::size_t cols, std::size_t row,
               std::size_t count, const std::uint8_t* source);

// Writes row `row` back as a file holds it: what pack_rows read, byte for byte.
void unpack_row(cria_type type, const std::uint8_t* quants, const std::uint16_t* scales, std::size_t cols,
                std::size_t row, std::uint8_t* out);

}  // namespace cria::cuda
