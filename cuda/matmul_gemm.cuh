// Prefill: products of many tokens with quantised weights by the tensor cores' int8. Of q4_0 and q8_0 two kernels give
// the same bits, those of matmul.h: matmul_gemm_sm80.cu runs wherever mma.m16n8k32 does, matmul_gemm_sm90.cu on Hopper
// alone. K-quants have the first. In both a block of threads computes 128 rows of the weights for a tile of tokens,
// superblock after superblock:
//
//                     a superblock: 64 columns, in shared memory              the sums, in registers
//
//     weights         ┌──────┐  8 tiles of 16 rows, each in the order of            128 tokens
//     128 rows        │ tile │  operand A's registers (csrc/cuda/pack.h):      ┌───┬───┬─ ... ─┐
//                     │ ...  │  a lane reads its 16 bytes at once         128  │16 │   │       │  16 rows by 8 tokens:
//                     └──────┘                                            rows │x 8│   │       │  4 a lane
//     tokens          ┌──────┐  4 chunks of 16 columns, a token's 16 bytes     ├───┼───┤       │
//     128             │chunk │  after another's: what ldmatrix and wgmma       │...│   │       │
//                     │ ...  │  read of operand B without bank conflicts       └───┴───┴─ ... ─┘
//                     └──────┘
//
// Bound by the rate at which instructions are issued, not by the tensor cores: each output of a block of 32 columns
// takes an fp32 addition (integer to float), a multiplication (the scales) and an fma, which nothing shares. That is 12
// a lane for the 8192 operations of an mma.m16n8k32 and, with the mma, 13 of a scheduler's cycles: on an H200 (132 SMs
// of 4 schedulers, 1.755 GHz) 584 TFLOP/s at most, 74 % of the 790 that its bf16 reaches. Each kernel says what it
// adds, and matmul_gemm_sm90.cu how it comes to have less.
//
// A superblock is 2^20 products for 14 KB of q4_0 and tokens, or 18 KB of q8_0: at 500 TFLOP/s 3.3 and 4.3 TB/s out of
// L2, which is why tiles are no smaller.
#pragma once

#include "cuda.cuh"
#include "matmul_finish.cuh"
#include "matmul_formats.cuh"

namespace cria::cuda {

/// matmul_q for a capacity of any size; meant for those above 16.
Status matmul_q_gemm(const MatmulQ&, Stream);

/// By mma.sync, where sm_80 code runs, in tiles of 128 tokens (`wide`) or 64; K-quants always in tiles of 64.
Status matmul_q_gemm_sm80(const MatmulQ&, bool wide, Stream);
/// q4_0 and q8_0 by wgmma, on compute capability 9.0 alone, in tiles of 128 tokens; x.capacity is a multiple of 4.
Status matmul_q_gemm_sm90(const MatmulQ&, Stream);

// What a block of threads computes: four pairs of row tiles (matmul_finish.cuh), 128 rows.
constexpr int kGemmPairs = 4;
constexpr int kGemmTiles = 2 * kGemmPairs;

inline unsigned gemm_row_blocks(const MatmulQ& op) {
  return (tile_pairs(op.weights, op.out.finish) + kGemmPairs - 1) / kGemmPairs;
}
inline unsigned gemm_token_blocks(const MatmulQ& op, int tokens) { return (op.rows.capacity + tokens - 1) / tokens; }

// Which row tile is the block's number `tile` of kGemmTiles: tile `tile % 2` of its pair. Those of pairs past the end
// are tiles of the matrix too, and their sums are dropped.
__device__ __forceinline__ int gemm_tile(const MatmulQ& op, int tile) {
  return pair_tile(op.weights, op.out.finish, blockIdx.y * kGemmPairs + tile / 2, tile % 2);
}

// The bases of a superblock's scales, where there are such.
template <bool kBases>
struct GemmBases {};
template <>
struct GemmBases<true> {
  std::uint32_t bases[kGemmTiles][kTileRows];  // [tile][row]
};

// A superblock in shared memory.
template <class Format, int kTokens>
struct GemmStage : GemmBases<Format::kBases> {
  alignas(16) std::uint8_t weights[kGemmTiles][Format::kTileBytes];
  uint4 quants[kSuperblock / kQuantChunk][kTokens];    // [chunk][token]
  std::uint32_t weight_scales[kGemmTiles][kTileRows];  // [tile][row]: a word of RowWords
  float scales[kSuperblock / kQuantBlock][kTokens];    // [block][token]
};

}  // namespace cria::cuda
