// Prefill by mma.sync: matmul_gemm.cuh, for every GPU of compute capability 8.0 or above.
//
// Eight warps of 32 rows by 64 tokens; or four, for 64 tokens, and two blocks an SM. A warp's tile is two row tiles, so
// that gate and up meet in one lane, by as many tokens as registers allow: of its 255 a lane has 64 for the sums of a
// slice and 64 for those of all slices before. So eight warps are what an SM holds, and what hides latencies is that
// the 32 mma of a superblock do not depend on one another. (Tiles of 32 by 32 in sixteen warps would issue 20
// instructions an mma.)
//
// A warp's instructions for a superblock, 32 mma, in q4_0: 384 of fp32 and the mma; 24 to unpack two tiles' nibbles and
// 8 for the weights' scales; 30 loads from shared memory (2 of weights, 4 of their scales, 8 ldmatrix, 16 of the
// tokens' scales); 87 for copies, addresses and the loop. That is 17.7 an mma: on an H200 430 TFLOP/s, 54 % of its
// bf16. An A100 takes 24 cycles for the 12 fp32 instructions of an mma, at half their rate, and issues the others
// meanwhile: 208 TFLOP/s, 67 % of its bf16's 312.
#include "launch.cuh"
#include "matmul_gemm.cuh"
#include "ptx.cuh"

namespace cria::cuda {
namespace {

constexpr int kWarpTokens = 64;

// Two threads a token.
template <int kTokens>
constexpr int kThreads = kTokens*(32 * kGemmPairs / kWarpTokens);

// Copies run two superblocks ahead. Two warps a scheduler take 1,100 cycles for one, and DRAM about 800.
constexpr unsigned kStages = 3;

template <class Format, int kTokens>
struct Layout {
  alignas(128) GemmStage<Format, kTokens> stages[kStages];
};

// What a thread copies of every superblock: pieces of 16 bytes, but single scales of tokens, whose rows may begin
// anywhere. It holds their numbers in superblock 0, from which the others are a step away that is the same for all
// threads.
template <class Format, int kTokens>
class Copies {
 public:
  __device__ __forceinline__ Copies(const MatmulQ& op, int first_token, int count) {
    const unsigned thread = threadIdx.x, n = superblocks(op.weights.cols);
#pragma unroll
    for (unsigned i = 0; i < kWeightPieces / kThreads<kTokens>; ++i) {
      const unsigned piece = thread + i * kThreads<kTokens>;
      weights_[i] = gemm_tile(op, piece / kTilePieces) * n * kTilePieces + piece % kTilePieces;
    }
    const unsigned piece = thread % 32;
    weight_scales_ = gemm_tile(op, piece / kScalePieces) * n * kScalePieces + piece % kScalePieces;
    // The last token stands in for those that are not there, which may not be read.
    row_ = thread / kTokens * op.x.capacity + min(first_token + static_cast<int>(thread) % kTokens, count - 1);
  }

  __device__ __forceinline__ void start(const MatmulQ& op, unsigned superblock, GemmStage<Format, kTokens>& to) const {
    const unsigned thread = threadIdx.x, rows = op.x.capacity;
#pragma unroll
    for (unsigned i = 0; i < kWeightPieces / kThreads<kTokens>; ++i) {
      cp_async_16(to.weights[0][0] + thread + i * kThreads<kTokens>,
                  reinterpret_cast<const uint4*>(op.weights.quants) + weights_[i] + superblock * kTilePieces);
    }
    if (thread < kGemmTiles * kScalePieces) {
      cp_async_16(to.weight_scales[0] + thread * 4,
                  reinterpret_cast<const uint4*>(op.weights.scales) + weight_scales_ + superblock * kScalePieces);
    }
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
      cp_async_16(to.quants[2 * i] + thread,
                  reinterpret_cast<const uint4*>(op.x.quants) + row_ + (superblock * 4 + 2 * i) * rows);
    }
    cp_async_4(to.scales[0] + thread, op.x.scales + row_ + superblock * 2 * rows);
  }

 private:
  static constexpr unsigned kTilePieces = kTileBytes<Format> / 16, kWeightPieces = kGemmTiles * kTilePieces;
  static constexpr unsigned kScalePieces = kTileScales * sizeof(std::uint16_t) / 16;
  static_assert(kThreads<kTokens> == 2 * kTokens, "two chunks of 16 bytes and two scales a token");

  unsigned weights_[kWeightPieces / kThreads<kTokens>], weight_scales_, row_;
};

// What a lane has of its warp's outputs: [row tile][eight tokens][row g or g + 8, by token 2t or 2t + 1].
using Sums = float[2][kWarpTokens / 8][4];

// Calls use(sum) or use(sum, other) for each.
template <class Use>
__device__ __forceinline__ void for_sums(const Use& use) {
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int eight = 0; eight < kWarpTokens / 8; ++eight) {
#pragma unroll
      for (int i = 0; i < 4; ++i) use(tile, eight, i);
    }
  }
}

// Where a warp's part of the block's outputs is.
struct WarpPlace {
  int pair = threadIdx.x / 32 % kGemmPairs, token = threadIdx.x / 32 / kGemmPairs * kWarpTokens;
};

template <class Format, int kTokens>
__device__ __forceinline__ void multiply(const GemmStage<Format, kTokens>& stage, Sums& sums) {
  const WarpPlace warp;
  const FragmentLane at;
  uint4 weights[2][Format::kLoads];
  float2 weight_scale[2][2];  // [row tile][row g or g + 8], block by block
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int i = 0; i < Format::kLoads; ++i) weights[tile][i] = stage.weights[2 * warp.pair + tile][i][at.lane];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      weight_scale[tile][i] = weight_scales(stage.weight_scales[2 * warp.pair + tile][at.g + 8 * i]);
    }
  }
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    std::uint32_t a[2][4];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) Format::operand_a(weights[tile], block, a[tile]);
#pragma unroll
    for (int sixteen = 0; sixteen < kWarpTokens / 16; ++sixteen) {
      // Both chunks of eight tokens, and of the next eight.
      const int token = warp.token + 16 * sixteen;
      std::uint32_t b[4];
      ldmatrix_x4(b, &stage.quants[2 * block + at.lane / 8 % 2][token + at.lane / 16 * 8 + at.lane % 8]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const std::uint32_t chunks[2] = {b[2 * j], b[2 * j + 1]};
        const float2 scale = *reinterpret_cast<const float2*>(&stage.scales[block][token + 8 * j + 2 * at.t]);
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
          // The same four registers for all: the accumulator that an mma starts from is not the one that it ends in.
          int dots[4] = {Format::kSumStart, Format::kSumStart, Format::kSumStart, Format::kSumStart};
          mma_s8(dots, a[tile], chunks);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const float2 rows = weight_scale[tile][i / 2];
            float& sum = sums[tile][2 * sixteen + j][i];
            sum = fmaf(sum_to_float<Format>(dots[i]), (block == 0 ? rows.x : rows.y) * (i % 2 == 0 ? scale.x : scale.y),
                       sum);
          }
        }
      }
    }
  }
}

// A store's eight lanes of a token write 32 bytes in a row, a whole sector, so nothing is won by way of shared memory.
__device__ __forceinline__ void finish_sums(const MatmulQ& op, int first_token, int count, const Sums& sums) {
  const WarpPlace warp;
  const FragmentLane at;
  const int pair = blockIdx.y * kGemmPairs + warp.pair, end = matmul_outputs(op.weights, op.out.finish);
  for_sums([&](int tile, int eight, int i) {
    const int token = first_token + warp.token + 8 * eight + 2 * at.t + i % 2, row = at.g + i / 2 * 8;
    if (token >= count) return;
    if (op.out.finish != Finish::kSwiGlu) {
      const int out = pair * kPairRows + tile * kTileRows + row;
      if (out < end) finish(op.out, token, out, sums[tile][eight][i]);
    } else if (tile == 0) {
      const int out = pair * kTileRows + row;
      if (out < end) finish(op.out, token, out, sums[0][eight][i], sums[1][eight][i]);
    }
  });
}

template <class Format, int kTokens>
__global__ void __launch_bounds__(kThreads<kTokens>, 256 / kThreads<kTokens>) matmul_q_mma(const MatmulQ op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count, first_token = blockIdx.x * kTokens;
  if (first_token >= count) return;
  auto& stages = shared_memory<Layout<Format, kTokens>>().stages;
  const Copies<Format, kTokens> copies(op, first_token, count);
  const unsigned n = superblocks(op.weights.cols);
#pragma unroll
  for (unsigned i = 0; i < kStages - 1; ++i) {
    if (i < n) copies.start(op, i, stages[i]);
    cp_async_commit();
  }

  Sums totals;
  for_sums([&](int tile, int eight, int i) { totals[tile][eight][i] = -0.0f; });  // -0 + x is x, also where x is 0
  unsigned superblock = 0;
#pragma unroll 1
  for (int slice = 0; slice < kSlices; ++slice) {
    Sums sums = {};
    const unsigned end = slice_begin(slice + 1, n);
#pragma unroll 1
    for (; superblock < end; ++superblock) {
      cp_async_wait<kStages - 2>();
      __syncthreads();
      // All warps have passed the stage that is filled now.
      const unsigned ahead = superblock + kStages - 1;
      if (ahead < n) copies.start(op, ahead, stages[ahead % kStages]);
      cp_async_commit();
      multiply(stages[superblock % kStages], sums);
    }
    for_sums([&](int tile, int eight, int i) { totals[tile][eight][i] += sums[tile][eight][i]; });
  }
  finish_sums(op, first_token, count, totals);
}

template <class Format, int kTokens>
Status run(const MatmulQ& op, Stream stream) {
  // Blocks that share weights follow one another: the tokens of all stay in L2, the weights need not.
  const dim3 grid(gemm_token_blocks(op, kTokens), gemm_row_blocks(op));
  return launch(matmul_q_mma<Format, kTokens>, grid, kThreads<kTokens>, sizeof(Layout<Format, kTokens>), stream, op,
                Overlap::kYes);
}

}  // namespace

Status matmul_q_gemm_sm80(const MatmulQ& op, bool wide, Stream stream) {
  const bool q4 = op.weights.type == CRIA_TYPE_Q4_0;
  if (wide) return q4 ? run<Q4, 128>(op, stream) : run<Q8, 128>(op, stream);
  return q4 ? run<Q4, 64>(op, stream) : run<Q8, 64>(op, stream);
}

}  // namespace cria::cuda
