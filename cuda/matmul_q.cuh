// The products with quantised weights of few tokens, where the weights' way from memory is all that counts: a GEMV
// for 1 and 2, and a narrow tile of the tensor cores for up to 16. matmul.h has the formula.
//
//                  columns: 8 slices, one a warp
//                 ┌────────┬────────┬─ ... ─┬────────┐
//     tile 0      │ warp 0 │ warp 1 │       │ warp 7 │    a block of threads: a pair of row tiles (matmul_finish.cuh).
//     tile 1      │        │        │       │        │    A warp goes from superblock to superblock of its slice; the
//                 └────────┴────────┴─ ... ─┴────────┘    slices' sums meet in shared memory
//
// Bytes in flight. An H200 wants 4.8 TB/s times some 750 ns, or 27 KB on each of its 132 multiprocessors, and a matrix
// of 4096 rows is 128 pairs, so one block of threads has to be enough. A superblock of the pair is 1 KiB of q4_0 to the
// warp and 128 bytes of scales, and is loaded some superblocks before it is used. In a block:
//
//     GEMV, 1 token     6 ahead    8 * 6 * 1.15 = 55 KB    at most 128 registers, so two blocks to a multiprocessor
//     GEMV, 2           3          28 KB                   two blocks too: more ahead would take more registers
//     narrow, 8         3          28 KB                   likewise
//     narrow, 16        4          37 KB                   some 200 registers: one block
//
// q8_0 has twice the bytes and goes half as far ahead. K-quants, of whose superblocks a lane holds more, go 4 or 3
// ahead with one token, which is 37 KB and more. Nothing is shared between warps before the end, so no barrier ever
// holds the loads up.
//
// The ring's weights are asked for while the kernel before still runs (launch.cuh): with one token 7 MB, three quarters
// of 4096 rows by 4096 columns. So neither a launch's latency, 1.3 us for each kernel of a graph on an H100, nor the
// memory's behind it should be seen any more. That is expected, not measured.
//
// Instructions that a warp issues for 2,048 weights (two tiles by a superblock), counted in nvcc 13.0's code for
// sm_90a. At 4.3 TB/s an H200 has time for 28 for every 256 weights of q4_0, or 224 (of q8_0 twice that).
//
//                              GEMV, 1 token    2     narrow, 8 tokens    16
//     loads                          9         15           14            22
//     nibbles to int8               24         24           24            24
//     dp4a or mma                   16         32            4             8
//     over the quad                 24         48            -             -
//     to floats, scaled              8         14           56           104
//     all, with addresses          113        207          154           245
//
// The narrow tile of 16 is thus above what bandwidth allows by a tenth, and has 16 tokens to show for it.
#pragma once

#include "launch.cuh"
#include "load_ahead.cuh"
#include "matmul_finish.cuh"
#include "matmul_formats.cuh"
#include "ptx.cuh"

namespace cria::cuda {

// Superblocks under way, where of q4_0 they are so many.
template <class Format>
constexpr int superblocks_ahead(int of_q4) {
  return (of_q4 * Format::kAhead + Q4::kAhead - 1) / Q4::kAhead;
}

// One tile of a pair, as a lane reads it.
template <class Format>
struct WeightTile {
  const std::uint8_t* quants;   // of superblock 0
  const std::uint16_t* scales;  // of superblock 0, row 0
  const std::uint16_t* bases;   // of superblocks 0 ... 3, row 0
  int lane;

  __device__ __forceinline__ WeightTile(const MatmulQ& op, int pair, int which, int lane) : lane(lane) {
    const std::size_t tile = pair_tile(op.weights, op.out.finish, pair, which);
    const std::size_t n = superblocks(op.weights.cols);
    quants = op.weights.quants + tile * n * Format::kTileBytes;
    scales = op.weights.scales + tile * tile_scales<Format>(n);
    bases = scales + n * kTileScales;
  }

  __device__ __forceinline__ void load(int superblock, typename Format::Quants& loaded) const {
    loaded = Format::template load<StreamLoads>(quants + superblock * Format::kTileBytes, lane);
  }

  __device__ __forceinline__ RowWords load_scales(int superblock, int row) const {
    RowWords words{reinterpret_cast<const std::uint32_t*>(scales)[superblock * kTileRows + row], 0};
    if constexpr (Format::kBases) {
      words.base = reinterpret_cast<const std::uint32_t*>(bases)[superblock / kBaseSuperblocks * kTileRows + row];
    }
    return words;
  }
};

// The activations, by offsets of 32 bits (a batch of few rows has fewer bytes than that): an address is one
// multiply-add and the array's base, where 64 bits would take four instructions more. In place of a token past the end
// stands the last, so that all lanes load alike; what comes of it is dropped.
struct Activations {
  const QuantRows& x;
  int count;

  __device__ __forceinline__ unsigned row(int token) const { return token < count ? token : count - 1; }

  // Of a token, the 4 bytes of a chunk that are lane t's: a quad reads a chunk.
  __device__ __forceinline__ std::uint32_t load(unsigned row, int t, unsigned chunk) const {
    const unsigned step = x.capacity * kQuantChunk, at = chunk * step + (row * kQuantChunk + 4 * t);
    return *reinterpret_cast<const std::uint32_t*>(x.quants + at);
  }
  __device__ __forceinline__ float load_scale(unsigned row, unsigned block) const {
    return x.scales[block * static_cast<unsigned>(x.capacity) + row];
  }
};

// --- The GEMV: every lane multiplies what it has of four rows, and a quad's lanes then hand the sums over so that each
// has one row.

template <class Format, int kTokens>
struct GemvSlot {
  typename Format::Quants weights[2];
  RowWords weight_scales;          // of the row that the lane ends with
  std::uint32_t x[kTokens][2][2];  // [token][block][half of the block]
  float x_scales[kTokens][2];
};

// The sums of one block over a quad: in, each lane's share of rows g and g + 8 of both tiles; out, the whole sum of the
// row that is the lane's: tile t / 2, row g + 8 (t % 2). Three shuffles for four rows, where four sums over the quad
// would take eight.
__device__ __forceinline__ int scatter_over_quad(const int (&sums)[2][2], int t) {
  const bool second = t / 2 != 0, lower = t % 2 != 0;
  int kept[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int sent = second ? sums[0][half] : sums[1][half];
    kept[half] = (second ? sums[1][half] : sums[0][half]) + __shfl_xor_sync(0xffffffffu, sent, 2);
  }
  return (lower ? kept[1] : kept[0]) + __shfl_xor_sync(0xffffffffu, lower ? kept[0] : kept[1], 1);
}

// The sum of a block's activations, of which a quad holds it.
template <class Format>
__device__ __forceinline__ float sum_over_quad(const std::uint32_t (&x)[2], int start) {
  int sum = dp4a(x[1], kOnes, dp4a(x[0], kOnes, start));
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  return sum_to_float<Format>(sum);
}

template <class Format, int kTokens>
constexpr int kGemvAhead = superblocks_ahead<Format>(kTokens == 1 ? 6 : 3);

template <class Format, int kTokens>
__global__ void __launch_bounds__(kSliceThreads, 2) matmul_q_gemv(MatmulQ op) {
  const FragmentLane at;
  const int slice = warp_number(), pair = blockIdx.x, own_tile = at.t / 2, own_row = at.g + 8 * (at.t % 2);
  const WeightTile<Format> tiles[2] = {{op, pair, 0, at.lane}, {op, pair, 1, at.lane}};
  const WeightTile<Format> own(op, pair, own_tile, at.lane);
  const auto load_weights = [&](int s, GemvSlot<Format, kTokens>& slot) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) tiles[tile].load(s, slot.weights[tile]);
    slot.weight_scales = own.load_scales(s, own_row);
  };
  GemvSlot<Format, kTokens> ring[kGemvAhead<Format, kTokens>];
  const int n = static_cast<int>(superblocks(op.weights.cols));
  const int begin = slice_begin(slice, n), end = slice_begin(slice + 1, n);
  load_first(ring, begin, end, load_weights);

  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count;
  if (count == 0) return;
  const Activations x{op.x, count};
  const auto load_x = [&](int s, GemvSlot<Format, kTokens>& slot) {
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
#pragma unroll
      for (int block = 0; block < 2; ++block) {
        slot.x_scales[i][block] = x.load_scale(x.row(i), 2 * s + block);
#pragma unroll
        for (int half = 0; half < 2; ++half) slot.x[i][block][half] = x.load(x.row(i), at.t, 4 * s + 2 * block + half);
      }
    }
  };
  load_first(ring, begin, end, load_x);
  const auto load = [&](int s, GemvSlot<Format, kTokens>& slot) {
    load_weights(s, slot);
    load_x(s, slot);
  };

  float sums[kTokens] = {};
  // One lane of a quad brings the bias in.
  const int start = at.t == 0 ? Format::kSumStart : 0;
  const auto use = [&](const GemvSlot<Format, kTokens>& slot) {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      const BlockScales weight = Format::scales(slot.weight_scales, block);
      std::uint32_t a[2][4];
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) Format::operand_a(slot.weights[tile], block, a[tile]);
#pragma unroll
      for (int i = 0; i < kTokens; ++i) {
        const std::uint32_t(&x_block)[2] = slot.x[i][block];
        float dots[Format::kGroups];
#pragma unroll
        for (int group = 0; group < Format::kGroups; ++group) {
          int shares[2][2];
#pragma unroll
          for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              shares[tile][half] = dp4a(a[tile][half + 2 * group], x_block[group], start);
              if constexpr (Format::kGroups == 1) {
                shares[tile][half] = dp4a(a[tile][half + 2], x_block[1], shares[tile][half]);
              }
            }
          }
          dots[group] = sum_to_float<Format>(scatter_over_quad(shares, at.t));
        }
        const float x_scale = slot.x_scales[i][block];
        const float x_sum = Format::kMinimum ? x_scale * sum_over_quad<Format>(x_block, start) : 0.0f;
        add_block<Format>(sums[i], block_dot<Format>(dots, weight), weight, x_scale, x_sum);
      }
    }
  };

  load_ahead(ring, begin, end, load, use);

  auto& shared = shared_memory<PairSums<kSlices, kTokens>>();
#pragma unroll
  for (int i = 0; i < kTokens; ++i) shared.at[slice][i][own_tile * kTileRows + own_row] = sums[i];
  __syncthreads();
  finish_pair(shared, op.weights, op.out, pair, 0, count);
}

// --- The narrow tile: the same slices by the tensor cores, whose operand B has 8 tokens. Lane (g, t) loads what token
// g has, and ends with rows g and g + 8 for tokens 2t and 2t + 1.

template <class Format, int kEights>
struct NarrowSlot {
  typename Format::Quants weights[2];
  RowWords weight_scales[2][2];    // [tile][row g or g + 8]
  std::uint32_t x[kEights][2][2];  // [eight tokens][block][half of the block]
  float x_scales[kEights][2][2];   // [eight tokens][block][token 2t or 2t + 1]
};

template <class Format, int kEights>
constexpr int kNarrowAhead = superblocks_ahead<Format>(kEights == 1 ? 3 : 4);

template <class Format, int kEights>
__global__ void __launch_bounds__(kSliceThreads, kEights == 1 ? 2 : 1) matmul_q_narrow(MatmulQ op) {
  const FragmentLane at;
  const int slice = warp_number(), pair = blockIdx.x;
  const WeightTile<Format> tiles[2] = {{op, pair, 0, at.lane}, {op, pair, 1, at.lane}};
  const auto load_weights = [&](int s, NarrowSlot<Format, kEights>& slot) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      tiles[tile].load(s, slot.weights[tile]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        slot.weight_scales[tile][half] = tiles[tile].load_scales(s, at.g + 8 * half);
      }
    }
  };
  NarrowSlot<Format, kEights> ring[kNarrowAhead<Format, kEights>];
  const int n = static_cast<int>(superblocks(op.weights.cols));
  const int begin = slice_begin(slice, n), end = slice_begin(slice + 1, n);
  load_first(ring, begin, end, load_weights);

  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count;
  if (count == 0) return;
  const Activations x{op.x, count};
  const auto load_x = [&](int s, NarrowSlot<Format, kEights>& slot) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      const int token = 8 * e;
#pragma unroll
      for (int block = 0; block < 2; ++block) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          slot.x[e][block][half] = x.load(x.row(token + at.g), at.t, 4 * s + 2 * block + half);
          slot.x_scales[e][block][half] = x.load_scale(x.row(token + 2 * at.t + half), 2 * s + block);
        }
      }
    }
  };
  load_first(ring, begin, end, load_x);
  const auto load = [&](int s, NarrowSlot<Format, kEights>& slot) {
    load_weights(s, slot);
    load_x(s, slot);
  };

  float sums[2][kEights][4] = {};
  const auto use = [&](const NarrowSlot<Format, kEights>& slot) {
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      float x_sums[kEights][2] = {};
      if constexpr (Format::kMinimum) {
#pragma unroll
        for (int e = 0; e < kEights; ++e) {
          const float2 both = block_sums<Format>(slot.x[e][block]);
          x_sums[e][0] = both.x * slot.x_scales[e][block][0];
          x_sums[e][1] = both.y * slot.x_scales[e][block][1];
        }
      }
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const BlockScales rows[2] = {Format::scales(slot.weight_scales[tile][0], block),
                                     Format::scales(slot.weight_scales[tile][1], block)};
        std::uint32_t a[4];
        Format::operand_a(slot.weights[tile], block, a);
#pragma unroll
        for (int e = 0; e < kEights; ++e) {
          int dots[Format::kGroups][4];
          multiply_block<Format>(dots, a, slot.x[e][block]);
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            float groups[Format::kGroups];
#pragma unroll
            for (int i = 0; i < Format::kGroups; ++i) groups[i] = sum_to_float<Format>(dots[i][c]);
            add_block<Format>(sums[tile][e][c], block_dot<Format>(groups, rows[c / 2]), rows[c / 2],
                              slot.x_scales[e][block][c % 2], x_sums[e][c % 2]);
          }
        }
      }
    }
  };

  load_ahead(ring, begin, end, load, use);

  auto& shared = shared_memory<PairSums<kSlices, kEights * 8>>();
  put_sums<kSlices, kEights>(shared, slice, at, sums);
  __syncthreads();
  finish_pair(shared, op.weights, op.out, pair, 0, count);
}

// For up to 16 rows of capacity.
template <class Format>
Status matmul_q_few(const MatmulQ& op, Stream stream) {
  const auto put = [&](auto kernel, int tokens) {
    const dim3 grid(tile_pairs(op.weights, op.out.finish));
    return launch(kernel, grid, kSliceThreads, sizeof(PairSums<kSlices, 1>) * tokens, stream, op, Overlap::kYes);
  };
  if (op.rows.capacity == 1) return put(matmul_q_gemv<Format, 1>, 1);
  if (op.rows.capacity == 2) return put(matmul_q_gemv<Format, 2>, 2);
  if (op.rows.capacity <= 8) return put(matmul_q_narrow<Format, 1>, 8);
  return put(matmul_q_narrow<Format, 2>, 16);
}

}  // namespace cria::cuda
