// From row tiles to outputs, for every product: which rows a warp or a block works on, and what becomes of their sums
// (csrc/core/finish.h).
//
// Two tiles of 16 weight rows go together, so that a gate row and its up row meet in one thread:
//
//     pair p of a matrix of T tiles     tiles 2p and 2p + 1; with kSwiGlu p (gate) and p + T / 2 (up)
//     its outputs                       rows 32p ... 32p + 31; with kSwiGlu 16p ... 16p + 15
#pragma once

#include "both.h"
#include "matmul.h"
#include "silu.cuh"

namespace cria::cuda {

constexpr int kTileRows = 16;
constexpr int kPairRows = 2 * kTileRows;

CRIA_BOTH inline int row_tiles(const Weights& weights) { return (weights.rows + kTileRows - 1) / kTileRows; }

CRIA_BOTH inline int tile_pairs(const Weights& weights, Finish finish) {
  return finish == Finish::kSwiGlu ? row_tiles(weights) / 2 : (row_tiles(weights) + 1) / 2;
}

// Tile 0 or 1 of a pair. The last pair may want its second tile, and a block more pairs than there are: those are given
// some tile of the matrix, and the sums are dropped.
__device__ inline int pair_tile(const Weights& weights, Finish finish, int pair, int which) {
  const int tiles = row_tiles(weights);
  const int tile = finish == Finish::kSwiGlu ? pair + which * (tiles / 2) : 2 * pair + which;
  return tile < tiles ? tile : tiles - 1;
}

// A block of threads that has a warp to a slice.
constexpr int kSliceThreads = kSlices * 32;

// Rows of a pair that are outputs, and of all the matrix.
__device__ inline int pair_outputs(Finish finish) { return finish == Finish::kSwiGlu ? kTileRows : kPairRows; }
__device__ inline int matmul_outputs(const Weights& weights, Finish finish) {
  return finish == Finish::kSwiGlu ? weights.rows / 2 : weights.rows;
}

// kStore and kAdd; kSwiGlu.
__device__ inline void finish(const MatmulOut& out, int token, int row, float sum) {
  float& to = out.data[token * out.stride + row];
  to = out.finish == Finish::kAdd ? to + sum : sum;
}
__device__ inline void finish(const MatmulOut& out, int token, int row, float gate, float up) {
  out.data[token * out.stride + row] = silu(gate) * up;
}

// A pair's sums in shared memory, [slice][token][row]. Eight lanes of a fragment's rows and four of every second token
// are written at once: 2 * 36 floats apart the four meet different banks.
constexpr int kSumStride = kPairRows + 4;
template <int kCount, int kTokens>
struct PairSums {
  float at[kCount][kTokens][kSumStride];
};

// Which warp of the block this is, as a number that the compiler sees is the same for all lanes: branches on it need no
// instructions for lanes that might part.
__device__ __forceinline__ int warp_number() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0); }

// A lane's place in a warp's fragments: of operand A and of the sums it has rows g and g + 8, of operand B token g, of
// the sums tokens 2t and 2t + 1.
struct FragmentLane {
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
};

// A slice's sums as mma leaves them: [tile][eight tokens][row g or g + 8, by token 2t or 2t + 1].
template <int kCount, int kEights>
__device__ __forceinline__ void put_sums(PairSums<kCount, kEights * 8>& shared, int slice, const FragmentLane& at,
                                         const float (&sums)[2][kEights][4]) {
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        shared.at[slice][8 * e + 2 * at.t + c % 2][tile * kTileRows + at.g + c / 2 * 8] = sums[tile][e][c];
      }
    }
  }
}

template <int kCount, int kTokens>
__device__ inline float add_slices(const PairSums<kCount, kTokens>& sums, int token, int row) {
  float total = sums.at[0][token][row];
#pragma unroll
  for (int slice = 1; slice < kCount; ++slice) total = total + sums.at[slice][token][row];
  return total;
}

// Adds the slices up in order and finishes a pair's outputs for tokens [first, count) of as many as there are sums. All
// threads of the block take part, when the sums are written and a barrier has passed.
template <int kCount, int kTokens>
__device__ inline void finish_pair(const PairSums<kCount, kTokens>& sums, const Weights& weights, const MatmulOut& out,
                                   int pair, int first, int count) {
  const int outputs = pair_outputs(out.finish), end = matmul_outputs(weights, out.finish);
  for (int i = threadIdx.x; i < kTokens * outputs; i += blockDim.x) {
    const int place = i % outputs, row = pair * outputs + place, token = i / outputs;
    if (row >= end || first + token >= count) continue;
    const float sum = add_slices(sums, token, place);
    if (out.finish == Finish::kSwiGlu) {
      finish(out, first + token, row, sum, add_slices(sums, token, place + kTileRows));
    } else {
      finish(out, first + token, row, sum);
    }
  }
}

}  // namespace cria::cuda
