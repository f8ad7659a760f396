// Prefill on Hopper: matmul_gemm.cuh, by three warpgroups that never wait for one another all at once.
//
//     producer, 128 threads     bulk copies bring a superblock in; each thread turns one token's 64 int8 into binary16
//     consumers, 2 x 128        wgmma over 64 rows each, weights as binary16 in registers; then scale and add
//
//                copied              converted             empty
//     memory ─────────────> stage ───────────────> stage ──────────> stage       a ring of stages, an mbarrier for each
//              bulk copies          the producer          consumers               arrow
//
// Why binary16, where int8 products are as exact and twice as fast: instructions are what is short, not tensor cores.
// An int8 wgmma leaves integers, and cannot start at the bits of a float without 64 moves, so an output takes four
// instructions a block: 18 for the 8192 operations that make an mma.m16n8k32, no fewer than matmul_gemm_sm80.cu's. The
// sums of binary16 products in binary32 are floats already, and two are left. They are the same numbers: a product of
// two int8 is an integer up to 2^14, every sum of 32 of them one below 2^20, and binary32 holds all integers up to
// 2^24, so that nothing is rounded, in whatever order the hardware adds.
//
// Instructions for a superblock, in q4_0: a consumer warp's, 32 such mma, are 256 of fp32, 32 loads of the tokens'
// scales, 36 to unpack nibbles and 65 others; a producer warp's some 195, 92 of them to convert. With two of the one
// and one of the other a scheduler that is 15.2 an mma: on an H200 500 TFLOP/s, 63 % of what its bf16 reaches. While
// one warpgroup waits for its wgmma, 128 cycles, the other scales and adds, 194.
#include <cstring>

#include "launch.cuh"
#include "matmul_gemm.cuh"
#include "ptx.cuh"

namespace cria::cuda {
namespace {

constexpr int kTokens = 128;
constexpr int kGroup = 128;  // threads of a warpgroup
constexpr int kThreads = 3 * kGroup;
constexpr int kProducerWarps = kGroup / 32, kConsumerWarps = 2 * kProducerWarps;

// What a thread starts with is the most that 65,536 registers give each, in eights; what the producer leaves of it is
// what there is for the consumers, who would wait for more for ever. That the compiler does start with no less,
// scripts/cuda-gate.mjs checks.
constexpr int kRegisters = 65536 / kThreads / 8 * 8, kProducerRegisters = 40, kConsumerRegisters = 232;
static_assert(kGroup * kProducerRegisters + 2 * kGroup * kConsumerRegisters <= kThreads * kRegisters,
              "the warpgroups share out what the block was launched with");

// Copies are issued two superblocks before they are converted, which a superblock's 1,600 cycles of consumers make
// ample; the rest of the ring is what the producer may be ahead of the consumers.
constexpr int kStages = 5;
constexpr unsigned kAhead = 2;

template <class Format>
struct Stage {
  GemmStage<Format, kTokens> copied;
  // The tokens as binary16: [block][even or odd columns][half of the block][token]. Columns 0, 2, ..., 14 of a chunk
  // are one piece of 16 bytes and 1, 3, ..., 15 another, in the order in which nibbles and bytes come out of words in
  // pairs.
  uint4 halves[2][2][2][kTokens];
};

template <class Format>
struct Layout {
  alignas(128) Stage<Format> stages[kStages];
  float up[64][kGroup];  // [a lane's output][thread]: the second consumer's sums on their way to the first
  std::uint64_t copied[kStages], converted[kStages], empty[kStages], up_there;
};

// Where in the ring a warp is, and the parity of the mbarriers' phase there.
struct Ring {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void next() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

// --- binary16, two to a word

__device__ __forceinline__ __half2 halves(std::uint32_t bits) {
  __half2 value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
__device__ __forceinline__ std::uint32_t bits(__half2 value) {
  std::uint32_t word;
  memcpy(&word, &value, sizeof word);
  return word;
}

// Bytes 0 and 2 (odd: 1 and 3) of four int8. With its sign bit turned a byte is q + 128, and under the bits of 1024 it
// makes the binary16 1024 + q + 128.
__device__ __forceinline__ std::uint32_t bytes_to_halves(std::uint32_t bytes, int odd) {
  const std::uint32_t biased = and_xor(bytes >> 8 * odd, 0x00ff00ffu, 0x64806480u);
  return bits(__hsub2(halves(biased), __float2half2_rn(1152.0f)));
}

// A lane's weights of a block as operand A of two wgmma of 16 columns, the even and the odd ones: [even,
// odd][register].
__device__ __forceinline__ void operand_halves(const Q8::Quants& quants, int block, std::uint32_t (&a)[2][4]) {
  const uint4& load = quants.blocks[block];
  const std::uint32_t words[4] = {load.x, load.y, load.z, load.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[0][i] = bytes_to_halves(words[i], 0);
    a[1][i] = bytes_to_halves(words[i], 1);
  }
}

// Likewise a nibble with its sign bit turned is q + 8. A low one makes 1024 + q + 8, a high one, which stands four bits
// further up, 1024 + 16 (q + 8); nothing is rounded on either's way to q.
__device__ __forceinline__ void operand_halves(const Q4::Quants& quants, int block, std::uint32_t (&a)[2][4]) {
  const uint4& nibbles = quants.nibbles;
  const std::uint32_t words[2] = {block == 0 ? nibbles.x : nibbles.z, block == 0 ? nibbles.y : nibbles.w};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      const std::uint32_t word = words[i] >> 8 * odd;
      const std::uint32_t low = and_xor(word, 0x000f000fu, 0x64086408u), high = and_xor(word, 0x00f000f0u, 0x64806480u);
      a[odd][i] = bits(__hsub2(halves(low), __float2half2_rn(1032.0f)));
      a[odd][2 + i] = bits(__hfma2(halves(high), __float2half2_rn(0.0625f), __float2half2_rn(-72.0f)));
    }
  }
}

// --- the producer

// What a superblock is copied in: each tile's weights, and their scales, each chunk, and each block's scales of tokens.
// The pieces go round the producer's warps, a lane each: lanes issue their bulk copies one after another, some nine
// instructions for each, which no scheduler should bear alone.
constexpr int kPieces = 2 * kGemmTiles + 4 + 2;

struct Piece {
  unsigned char* to = nullptr;          // in stage 0
  const unsigned char* from = nullptr;  // in superblock 0
  std::int64_t step = 0;                // bytes from superblock to superblock
  int bytes = 0;

  // `tokens` of them, a multiple of 4, for copies are of 16 bytes.
  template <class Format>
  __device__ __forceinline__ Piece(const MatmulQ& op, Stage<Format>& stage, int number, int first_token, int tokens) {
    const std::int64_t n = superblocks(op.weights.cols), rows = op.x.capacity;
    const int tile = number % kGemmTiles, rest = number - 2 * kGemmTiles;
    if (number < kGemmTiles) {
      constexpr int kBytes = Format::kTileBytes;
      set(stage.copied.weights[tile], op.weights.quants + gemm_tile(op, tile) * n * kBytes, kBytes, kBytes);
    } else if (number < 2 * kGemmTiles) {
      constexpr int kBytes = kTileScales * sizeof(std::uint16_t);
      set(stage.copied.weight_scales[tile], op.weights.scales + gemm_tile(op, tile) * n * kTileScales, kBytes, kBytes);
    } else if (rest < 4) {
      set(stage.copied.quants[rest], op.x.quants + (rest * rows + first_token) * kQuantChunk, 4 * rows * kQuantChunk,
          tokens * kQuantChunk);
    } else if (number < kPieces) {
      set(stage.copied.scales[rest - 4], op.x.scales + (rest - 4) * rows + first_token,
          2 * rows * static_cast<int>(sizeof(float)), tokens * static_cast<int>(sizeof(float)));
    }
  }

 private:
  __device__ __forceinline__ void set(void* shared, const void* global, std::int64_t bytes_apart, int size) {
    to = static_cast<unsigned char*>(shared);
    from = static_cast<const unsigned char*>(global);
    step = bytes_apart;
    bytes = size;
  }
};

// One token's columns of a superblock. Where there is no token, whatever is there becomes numbers that nobody reads.
template <class Format>
__device__ __forceinline__ void convert(Stage<Format>& stage, int token) {
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    const uint4 q = stage.copied.quants[chunk][token];
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      stage.halves[chunk / 2][odd][chunk % 2][token] = make_uint4(bytes_to_halves(q.x, odd), bytes_to_halves(q.y, odd),
                                                                  bytes_to_halves(q.z, odd), bytes_to_halves(q.w, odd));
    }
  }
}

template <class Format>
__device__ __forceinline__ void produce(const MatmulQ& op, Layout<Format>& shared, int first_token, int count) {
  const unsigned n = superblocks(op.weights.cols);
  const int lane = threadIdx.x % 32, tokens = (min(count - first_token, kTokens) + 3) / 4 * 4;
  const Piece piece(op, shared.stages[0], lane * kProducerWarps + threadIdx.x / 32, first_token, tokens);
  const int warp_bytes = __reduce_add_sync(0xffffffffu, piece.bytes);
  Ring copying, converting;
  for (unsigned superblock = 0; superblock < n + kAhead; ++superblock) {
    if (superblock < n) {
      std::uint64_t* copied = &shared.copied[copying.stage];
      mbarrier_wait(&shared.empty[copying.stage], copying.parity ^ 1);  // at once in the ring's first round
      // A lane's copy may land before it is expected: the count of bytes may be below 0, and the phase still waits for
      // lane 0's arrival.
      if (lane == 0) mbarrier_expect_tx(copied, warp_bytes);
      if (piece.bytes != 0) {
        bulk_copy(piece.to + copying.stage * sizeof(Stage<Format>), piece.from + superblock * piece.step, piece.bytes,
                  copied);
      }
      copying.next();
    }
    if (superblock < kAhead) continue;
    mbarrier_wait(&shared.copied[converting.stage], converting.parity);
    convert(shared.stages[converting.stage], threadIdx.x);
    fence_proxy_async();
    __syncwarp();
    if (lane == 0) mbarrier_arrive(&shared.converted[converting.stage]);
    converting.next();
  }
}

// --- the consumers

// A lane's outputs of its warp's 16 rows: [4 (eight tokens) + (row g or g + 8, by token 2t or 2t + 1)].
using Sums = float[64];

// Which tile a consumer's warp has: in every pair the first warpgroup has the first, so that of gate and up all of one
// is in one warpgroup.
struct WarpPlace {
  int thread = threadIdx.x % kGroup, second = threadIdx.x / kGroup - 1, pair = thread / 32;
};

template <class Format>
__device__ __forceinline__ void multiply(const Stage<Format>& stage, std::uint64_t tokens, Sums& products, Sums& sums) {
  const WarpPlace warp;
  const FragmentLane at;
  const int tile = 2 * warp.pair + warp.second;
  const auto weights = Format::template load<SharedLoads>(stage.copied.weights[tile], at.lane);
  const float2 row = two_halves(stage.copied.weight_scales[tile][at.g]);
  const float2 row_8 = two_halves(stage.copied.weight_scales[tile][at.g + 8]);
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    std::uint32_t a[2][4];
    operand_halves(weights, block, a);
    wgmma_fence();
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      wgmma_f16_n128(products, a[odd], descriptor_at(tokens, (2 * block + odd) * sizeof stage.halves[0][0]), odd == 1);
    }
    wgmma_commit();
    wgmma_wait<0>(products);
    const float row_scale[2] = {block == 0 ? row.x : row.y, block == 0 ? row_8.x : row_8.y};
#pragma unroll
    for (int eight = 0; eight < kTokens / 8; ++eight) {
      const float2 scale = *reinterpret_cast<const float2*>(&stage.copied.scales[block][8 * eight + 2 * at.t]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& sum = sums[4 * eight + i];
        sum = fmaf(products[4 * eight + i], row_scale[i / 2] * (i % 2 == 0 ? scale.x : scale.y), sum);
      }
    }
  }
}

template <class Format>
__device__ __forceinline__ void finish_sums(const MatmulQ& op, Layout<Format>& shared, int first_token, int count,
                                            const Sums& sums) {
  const WarpPlace warp;
  const FragmentLane at;
  const bool swiglu = op.out.finish == Finish::kSwiGlu;
  if (swiglu) {
    if (warp.second) {
#pragma unroll
      for (int i = 0; i < 64; ++i) shared.up[i][warp.thread] = sums[i];
      mbarrier_arrive(&shared.up_there);
      return;
    }
    mbarrier_wait(&shared.up_there, 0);
  }
  const int pair = blockIdx.y * kGemmPairs + warp.pair, end = matmul_outputs(op.weights, op.out.finish);
  const int first_row = swiglu ? pair * kTileRows : pair * kPairRows + warp.second * kTileRows;
#pragma unroll
  for (int i = 0; i < 64; ++i) {
    const int token = first_token + i / 4 * 8 + 2 * at.t + i % 2, row = first_row + at.g + i % 4 / 2 * 8;
    if (token >= count || row >= end) continue;
    if (swiglu) {
      finish(op.out, token, row, sums[i], shared.up[i][warp.thread]);
    } else {
      finish(op.out, token, row, sums[i]);
    }
  }
}

template <class Format>
__device__ __forceinline__ void consume(const MatmulQ& op, Layout<Format>& shared, int first_token, int count) {
  const unsigned n = superblocks(op.weights.cols);
  // The halves in the ring's first stage: the next eight columns are kTokens pieces further, the next eight tokens
  // eight.
  const std::uint64_t tokens = smem_descriptor(shared.stages[0].halves, kTokens * 16, 8 * 16);
  Sums totals, products = {};
#pragma unroll
  for (int i = 0; i < 64; ++i) totals[i] = -0.0f;  // -0 + x is x, also where x is 0
  Ring ring;
  unsigned superblock = 0;
#pragma unroll 1
  for (int slice = 0; slice < kSlices; ++slice) {
    Sums sums = {};
    const unsigned end = slice_begin(slice + 1, n);
#pragma unroll 1
    for (; superblock < end; ++superblock) {
      // Of what was copied too: the copies are over for the producer's lanes, which waited, and so for whoever waits
      // for those (ptx.cuh).
      mbarrier_wait(&shared.converted[ring.stage], ring.parity);
      multiply(shared.stages[ring.stage], descriptor_at(tokens, ring.stage * sizeof(Stage<Format>)), products, sums);
      __syncwarp();
      if (threadIdx.x % 32 == 0) mbarrier_arrive(&shared.empty[ring.stage]);
      ring.next();
    }
#pragma unroll
    for (int i = 0; i < 64; ++i) totals[i] += sums[i];
  }
  finish_sums(op, shared, first_token, count, totals);
}

template <class Format>
__global__ void __launch_bounds__(kThreads, 1) matmul_q_wgmma(const MatmulQ op) {
  auto& shared = shared_memory<Layout<Format>>();
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&shared.copied[i], kProducerWarps);
      mbarrier_init(&shared.converted[i], kProducerWarps);
      mbarrier_init(&shared.empty[i], kConsumerWarps);
    }
    mbarrier_init(&shared.up_there, kGroup);
    fence_mbarrier_init();
  }
  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count, first_token = blockIdx.x * kTokens;
  if (first_token >= count) return;
  __syncthreads();
  if (threadIdx.x < kGroup) {
    setmaxnreg_dec<kProducerRegisters>();
    produce(op, shared, first_token, count);
  } else {
    setmaxnreg_inc<kConsumerRegisters>();
    consume(op, shared, first_token, count);
  }
}

template <class Format>
Status run(const MatmulQ& op, Stream stream) {
  const dim3 grid(gemm_token_blocks(op, kTokens), gemm_row_blocks(op));
  return launch(matmul_q_wgmma<Format>, grid, kThreads, sizeof(Layout<Format>), stream, op, Overlap::kYes);
}

}  // namespace

Status matmul_q_gemm_sm90(const MatmulQ& op, Stream stream) {
  return op.weights.type == CRIA_TYPE_Q4_0 ? run<Q4>(op, stream) : run<Q8>(op, stream);
}

}  // namespace cria::cuda
