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
//
// K-quants want more registers: scales of scales, minima, and of q6_K two products for one. So their warps have 32
// tokens, and a block of eight warps 64. What is copied with a superblock is then used half as often: 4.6 KB of q4_K
// for 2^19 products, at 250 TFLOP/s 2.2 TB/s out of L2. The sums of activations that minima are multiplied by are
// products too, with ones: one mma more for two, none more for the others.
#include "launch.cuh"
#include "matmul_gemm.cuh"
#include "ptx.cuh"

namespace cria::cuda {
namespace {

template <class Format>
constexpr int kWarpTokens = Format::kBases ? 32 : 64;

// Two threads a token, or four.
template <class Format, int kTokens>
constexpr int kThreads = kTokens*(32 * kGemmPairs / kWarpTokens<Format>);

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
    for (unsigned i = 0; i < kWeightCopies; ++i) {
      const unsigned piece = thread + i * kAllThreads;
      weights_[i] = gemm_tile(op, piece / kTilePieces % kGemmTiles) * n * kTilePieces + piece % kTilePieces;
    }
    const unsigned piece = thread % 32;
    const unsigned tile = gemm_tile(op, piece / kScalePieces) * (tile_scales<Format>(n) / kTileScales) * kScalePieces;
    weight_scales_ = tile + piece % kScalePieces;
    if constexpr (Format::kBases) bases_ = weight_scales_ + n * kScalePieces;
    // The last token stands in for those that are not there, which may not be read.
    row_ = thread / kTokens * op.x.capacity + min(first_token + static_cast<int>(thread) % kTokens, count - 1);
  }

  __device__ __forceinline__ void start(const MatmulQ& op, unsigned superblock, GemmStage<Format, kTokens>& to) const {
    const unsigned thread = threadIdx.x, rows = op.x.capacity;
#pragma unroll
    for (unsigned i = 0; i < kWeightCopies; ++i) {
      const unsigned piece = thread + i * kAllThreads;
      if (kWeightPieces % kAllThreads != 0 && piece >= kWeightPieces) break;
      cp_async_16(to.weights[0] + piece * 16,
                  reinterpret_cast<const uint4*>(op.weights.quants) + weights_[i] + superblock * kTilePieces);
    }
    if (thread < kGemmTiles * kScalePieces) {
      const uint4* scales = reinterpret_cast<const uint4*>(op.weights.scales);
      cp_async_16(to.weight_scales[0] + thread * 4, scales + weight_scales_ + superblock * kScalePieces);
      if constexpr (Format::kBases) {
        cp_async_16(to.bases[0] + thread * 4, scales + bases_ + superblock / kBaseSuperblocks * kScalePieces);
      }
    }
#pragma unroll
    for (unsigned i = 0; i < 4 / kTokenThreads; ++i) {
      cp_async_16(to.quants[kTokenThreads * i] + thread,
                  reinterpret_cast<const uint4*>(op.x.quants) + row_ + (superblock * 4 + kTokenThreads * i) * rows);
    }
    if (kTokenThreads == 2 || thread < 2 * kTokens) {
      cp_async_4(to.scales[0] + thread, op.x.scales + row_ + superblock * 2 * rows);
    }
  }

 private:
  static constexpr unsigned kAllThreads = kThreads<Format, kTokens>;
  static constexpr unsigned kTilePieces = Format::kTileBytes / 16, kWeightPieces = kGemmTiles * kTilePieces;
  static constexpr unsigned kWeightCopies = (kWeightPieces + kAllThreads - 1) / kAllThreads;
  static constexpr unsigned kScalePieces = kTileScales * sizeof(std::uint16_t) / 16;
  static constexpr unsigned kTokenThreads = kAllThreads / kTokens;
  static_assert(kTokenThreads == 2 || kTokenThreads == 4, "four chunks of 16 bytes and two scales a token");

  unsigned weights_[kWeightCopies], weight_scales_, bases_, row_;
};

// What a lane has of its warp's outputs: [row tile][eight tokens][row g or g + 8, by token 2t or 2t + 1].
template <class Format>
using Sums = float[2][kWarpTokens<Format> / 8][4];

// Calls use(tile, eight, i) for each.
template <class Format, class Use>
__device__ __forceinline__ void for_sums(const Use& use) {
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
    for (int eight = 0; eight < kWarpTokens<Format> / 8; ++eight) {
#pragma unroll
      for (int i = 0; i < 4; ++i) use(tile, eight, i);
    }
  }
}

// Where a warp's part of the block's outputs is.
template <class Format>
struct WarpPlace {
  int pair = threadIdx.x / 32 % kGemmPairs, token = threadIdx.x / 32 / kGemmPairs * kWarpTokens<Format>;
};

template <class Format, int kTokens>
__device__ __forceinline__ void multiply(const GemmStage<Format, kTokens>& stage, Sums<Format>& sums) {
  const WarpPlace<Format> warp;
  const FragmentLane at;
  typename Format::Quants weights[2];
  RowWords rows[2][2];  // [row tile][row g or g + 8]
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    weights[tile] = Format::template load<SharedLoads>(stage.weights[2 * warp.pair + tile], at.lane);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      rows[tile][i].scales = stage.weight_scales[2 * warp.pair + tile][at.g + 8 * i];
      if constexpr (Format::kBases) rows[tile][i].base = stage.bases[2 * warp.pair + tile][at.g + 8 * i];
    }
  }
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    std::uint32_t a[2][4];
    BlockScales weight[2][2];
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      Format::operand_a(weights[tile], block, a[tile]);
#pragma unroll
      for (int i = 0; i < 2; ++i) weight[tile][i] = Format::scales(rows[tile][i], block);
    }
#pragma unroll
    for (int sixteen = 0; sixteen < kWarpTokens<Format> / 16; ++sixteen) {
      // Both chunks of eight tokens, and of the next eight.
      const int token = warp.token + 16 * sixteen;
      std::uint32_t b[4];
      ldmatrix_x4(b, &stage.quants[2 * block + at.lane / 8 % 2][token + at.lane / 16 * 8 + at.lane % 8]);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const std::uint32_t chunks[2] = {b[2 * j], b[2 * j + 1]};
        const float2 scale = *reinterpret_cast<const float2*>(&stage.scales[block][token + 8 * j + 2 * at.t]);
        float x_sums[2] = {};
        if constexpr (Format::kMinimum) {
          const float2 both = block_sums<Format>(chunks);
          x_sums[0] = both.x * scale.x;
          x_sums[1] = both.y * scale.y;
        }
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
          // The same registers for all: the accumulator that an mma starts from is not the one that it ends in.
          int dots[Format::kGroups][4];
          multiply_block<Format>(dots, a[tile], chunks);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float groups[Format::kGroups];
#pragma unroll
            for (int group = 0; group < Format::kGroups; ++group) groups[group] = sum_to_float<Format>(dots[group][i]);
            const BlockScales& row = weight[tile][i / 2];
            add_block<Format>(sums[tile][2 * sixteen + j][i], block_dot<Format>(groups, row), row,
                              i % 2 == 0 ? scale.x : scale.y, x_sums[i % 2]);
          }
        }
      }
    }
  }
}

// A store's eight lanes of a token write 32 bytes in a row, a whole sector, so nothing is won by way of shared memory.
template <class Format>
__device__ __forceinline__ void finish_sums(const MatmulQ& op, int first_token, int count, const Sums<Format>& sums) {
  const WarpPlace<Format> warp;
  const FragmentLane at;
  const int pair = blockIdx.y * kGemmPairs + warp.pair, end = matmul_outputs(op.weights, op.out.finish);
  for_sums<Format>([&](int tile, int eight, int i) {
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
__global__ void __launch_bounds__(kThreads<Format, kTokens>, 256 / kThreads<Format, kTokens>)
    matmul_q_mma(const MatmulQ op) {
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

  Sums<Format> totals;
  for_sums<Format>(
      [&](int tile, int eight, int i) { totals[tile][eight][i] = -0.0f; });  // -0 + x is x, also where x is 0
  unsigned superblock = 0;
#pragma unroll 1
  for (int slice = 0; slice < kSlices; ++slice) {
    Sums<Format> sums = {};
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
    for_sums<Format>([&](int tile, int eight, int i) { totals[tile][eight][i] += sums[tile][eight][i]; });
  }
  finish_sums<Format>(op, first_token, count, totals);
}

template <class Format, int kTokens>
Status run(const MatmulQ& op, Stream stream) {
  // Blocks that share weights follow one another: the tokens of all stay in L2, the weights need not.
  const dim3 grid(gemm_token_blocks(op, kTokens), gemm_row_blocks(op));
  return launch(matmul_q_mma<Format, kTokens>, grid, kThreads<Format, kTokens>, sizeof(Layout<Format, kTokens>), stream,
                op, Overlap::kYes);
}

}  // namespace

Status matmul_q_gemm_sm80(const MatmulQ& op, bool wide, Stream stream) {
  switch (op.weights.type) {
    case CRIA_TYPE_Q4_0:
      return wide ? run<Q4, 128>(op, stream) : run<Q4, 64>(op, stream);
    case CRIA_TYPE_Q4_K:
      return run<Q4K, 64>(op, stream);
    case CRIA_TYPE_Q5_K:
      return run<Q5K, 64>(op, stream);
    case CRIA_TYPE_Q6_K:
      return run<Q6K, 64>(op, stream);
    default:
      return wide ? run<Q8, 128>(op, stream) : run<Q8, 64>(op, stream);
  }
}

}  // namespace cria::cuda
