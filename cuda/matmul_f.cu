// Products with f16, bf16 and f32 weights; matmul.h has the formula and the order of the sums.
//
// f16 and bf16 go through the tensor cores for every number of rows, over steps of 16 columns:
//
//     up to 16 rows   A block is a pair of row tiles, a warp one slice of the columns, as matmul_q.cuh draws it. A lane
//                     has its 16 bytes of both tiles, operand A of two mma, under way 6 or 4 steps before they are
//                     used: 8 warps * 6 * 1 KiB = 48 KiB in flight of the 27 KB that a multiprocessor of an H200 needs.
//                     A step is some 45 instructions for 512 weights; bandwidth allows 224.
//     above           A block is 4 pairs by 64 tokens, which takes the slices one after another:
//
//                         64 tokens             stages of 32 columns in shared memory:
//                       ┌────────┬────────┐
//                pair 0 │ warp 0 │ warp 1 │        weights   8 tiles by 2 steps, fragments as they are, by cp.async
//                pair 1 │ warp 2 │ warp 3 │        x         64 rows rounded to 16 bits, 80 bytes apart, so that the
//                pair 2 │ warp 4 │ warp 5 │                  eight rows of an ldmatrix meet all banks once
//                pair 3 │ warp 6 │ warp 7 │
//                       └────────┴────────┘
//                     A warp's step is 8 mma, 2 loads of 16 bytes a lane and 2 ldmatrix: 2 KiB of shared memory, so for
//                     the warps of four schedulers 64 cycles, which is what an A100's tensor cores take for the 8 mma
//                     of each. Those of Hopper take half: there shared memory bounds it.
//
// f32 weights are rows as in a file, and every output one chain over ascending k, so neither slices nor tensor cores
// serve: 32 rows by 16 tokens a block through shared memory, a thread having one row and two tokens. They are there for
// exactness, not for speed: 16 KB in flight a block.
#include <cstring>

#include "launch.cuh"
#include "load_ahead.cuh"
#include "matmul_finish.cuh"
#include "ptx.cuh"

namespace cria::cuda {
namespace {

constexpr int kStep = 16;  // columns of one mma
constexpr int kFragmentBytes = 512;

CRIA_BOTH int matmul_steps(const Weights& weights) { return (weights.cols + kStep - 1) / kStep; }

template <class Pair>
__device__ __forceinline__ std::uint32_t as_register(Pair pair) {
  std::uint32_t bits;
  static_assert(sizeof pair == sizeof bits, "a register holds two");
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

// An element type: two floats rounded to it, as they stand in a register of operand B, and its mma.
struct F16 {
  static __device__ __forceinline__ std::uint32_t round(float low, float high) {
    return as_register(__floats2half2_rn(low, high));
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_f16(c, a, b);
  }
};
struct Bf16 {
  static __device__ __forceinline__ std::uint32_t round(float low, float high) {
    return as_register(__floats2bfloat162_rn(low, high));
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    mma_bf16(c, a, b);
  }
};

__device__ __forceinline__ const std::uint8_t* tile_fragments(const MatmulF& op, int pair, int which) {
  const std::size_t tile = pair_tile(op.weights, op.out.finish, pair, which);
  return op.weights.quants + tile * matmul_steps(op.weights) * kFragmentBytes;
}

// --- Up to 16 rows.

template <int kEights>
struct NarrowSlot {
  uint4 weights[2];
  float x[kEights][2][2];  // [eight tokens][columns 2t and 2t + 8][their neighbours]
};

template <class Element, int kEights>
__global__ void __launch_bounds__(kSliceThreads, 1) matmul_f_narrow(MatmulF op) {
  const FragmentLane at;
  const int slice = warp_number(), pair = blockIdx.x, first = blockIdx.y * kEights * 8;
  const std::uint8_t* fragments[2];
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) fragments[tile] = tile_fragments(op, pair, tile) + at.lane * 16;
  const auto load_weights = [&](int step, NarrowSlot<kEights>& slot) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) slot.weights[tile] = load_stream_16(fragments[tile] + step * kFragmentBytes);
  };
  NarrowSlot<kEights> ring[kEights == 1 ? 6 : 4];
  const int n = matmul_steps(op.weights), begin = slice_begin(slice, n), end = slice_begin(slice + 1, n);
  load_first(ring, begin, end, load_weights);

  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count;
  if (first >= count) return;
  // In place of a token past the end stands the last; what comes of it is dropped.
  const float* x[kEights];
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
    const int token = first + 8 * e + at.g;
    x[e] = op.x + static_cast<std::int64_t>(token < count ? token : count - 1) * op.weights.cols;
  }
  const auto load_x = [&](int step, NarrowSlot<kEights>& slot) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int col = step * kStep + 2 * at.t + i / 2 * 8 + i % 2;
        slot.x[e][i / 2][i % 2] = col < op.weights.cols ? x[e][col] : 0.0f;
      }
    }
  };
  load_first(ring, begin, end, load_x);
  const auto load = [&](int step, NarrowSlot<kEights>& slot) {
    load_weights(step, slot);
    load_x(step, slot);
  };

  float sums[2][kEights][4] = {};
  const auto use = [&](const NarrowSlot<kEights>& slot) {
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
      const std::uint32_t b[2] = {Element::round(slot.x[e][0][0], slot.x[e][0][1]),
                                  Element::round(slot.x[e][1][0], slot.x[e][1][1])};
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const uint4& load = slot.weights[tile];
        Element::mma(sums[tile][e], {load.x, load.y, load.z, load.w}, b);
      }
    }
  };

  load_ahead(ring, begin, end, load, use);

  auto& shared = shared_memory<PairSums<kSlices, kEights * 8>>();
  put_sums<kSlices, kEights>(shared, slice, at, sums);
  __syncthreads();
  finish_pair(shared, op.weights, op.out, pair, first, count);
}

// --- Above 16 rows.

constexpr int kGemmPairs = 4, kGemmTokens = 64, kGemmEights = 4;
constexpr int kGemmThreads = kGemmPairs * kGemmTokens / (8 * kGemmEights) * 32;
constexpr int kStages = 3, kStageSteps = 2, kStageCols = kStageSteps * kStep;
constexpr int kStageStride = kStageCols + 8;  // elements from token to token

struct GemmStage {
  uint4 weights[kGemmPairs][2][kStageSteps][32];
  uint2 x[kGemmTokens][kStageStride / 4];  // four columns each
};
struct GemmLayout {
  GemmStage stages[kStages];
};

// One thread's share of the stages. Steps and columns past the end are zeros; in place of tokens and pairs past the end
// stand others, and what comes of them is dropped.
//
// Of the weights it copies two lanes' 16 bytes: of step `warp % 2` and tile `warp / 2 % 2` of pairs warp / 4 and
// warp / 4 + 2. Of x it has four columns of two tokens, which pass through its registers to be rounded.
template <class Element>
struct StageShare {
  const std::uint8_t* weights[2];
  const float* x[2];
  float4 next[2];
  int steps, cols, lane, step, tile, pair, token, col;

  __device__ __forceinline__ StageShare(const MatmulF& op, int first_pair, int first_token, int count)
      : steps(matmul_steps(op.weights)), cols(op.weights.cols), lane(threadIdx.x % 32) {
    const int warp = warp_number();
    step = warp % kStageSteps;
    tile = warp / kStageSteps % 2;
    pair = warp / kStageSteps / 2;
    token = threadIdx.x / (kStageCols / 4);
    col = threadIdx.x % (kStageCols / 4) * 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int p = first_pair + pair + i * (kGemmPairs / 2), t = first_token + token + i * (kGemmTokens / 2);
      weights[i] = tile_fragments(op, p, tile) + lane * 16;
      x[i] = op.x + static_cast<std::int64_t>(t < count ? t : count - 1) * cols;
    }
  }

  __device__ __forceinline__ void copy_weights(GemmStage& stage, int first_step) const {
    const int at = first_step + step;
    const bool there = at < steps;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      uint4* to = &stage.weights[pair + i * (kGemmPairs / 2)][tile][step][lane];
      cp_async_16(to, weights[i] + (there ? at : 0) * kFragmentBytes, there);
    }
  }

  __device__ __forceinline__ void load_x(int first_step) {
    const int at = first_step * kStep + col;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      next[i] = at < cols ? *reinterpret_cast<const float4*>(x[i] + at) : float4{0.0f, 0.0f, 0.0f, 0.0f};
    }
  }
  __device__ __forceinline__ void store_x(GemmStage& stage) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      stage.x[token + i * (kGemmTokens / 2)][col / 4] = {Element::round(next[i].x, next[i].y),
                                                         Element::round(next[i].z, next[i].w)};
    }
  }
};

// A warp's sums: of a pair of tiles by four times eight tokens.
struct GemmSums {
  float at[2][kGemmEights][4];

  __device__ __forceinline__ void fill(float value) {
#pragma unroll
    for (int i = 0; i < 2 * kGemmEights * 4; ++i) at[i / 4 / kGemmEights][i / 4 % kGemmEights][i % 4] = value;
  }
  __device__ __forceinline__ void add(const GemmSums& sums) {
#pragma unroll
    for (int i = 0; i < 2 * kGemmEights * 4; ++i) {
      at[i / 4 / kGemmEights][i / 4 % kGemmEights][i % 4] += sums.at[i / 4 / kGemmEights][i / 4 % kGemmEights][i % 4];
    }
  }
};

// The slices one after another: sums of the one that is under way, and the total of those before.
struct SlicedSums {
  GemmSums slice, total;
  int number = 0, end;  // of the slice: its number, the first step behind it

  __device__ __forceinline__ explicit SlicedSums(int n) : end(slice_begin(1, n)) {
    slice.fill(0.0f);
    total.fill(-0.0f);  // to which the first slice adds as it is, -0 included
  }
  __device__ __forceinline__ void next(int n) {
    total.add(slice);
    slice.fill(0.0f);
    ++number;
    end = slice_begin(number + 1, n);
  }
};

template <class Element>
__device__ __forceinline__ void multiply_step(const GemmStage& stage, int s, int pair, int token,
                                              const FragmentLane& at, GemmSums& sums) {
  std::uint32_t b[kGemmEights][2];
#pragma unroll
  for (int e = 0; e < kGemmEights; e += 2) {
    // The lane's row of four matrices: tokens 8e ..., columns 0 ... 7 and 8 ... 15, and the next eight tokens.
    const int row = token + 8 * (e + at.lane / 16) + at.lane % 8, col = s * kStep + at.lane / 8 % 2 * 8;
    std::uint32_t four[4];
    ldmatrix_x4(four, &stage.x[row][col / 4]);
    b[e][0] = four[0];
    b[e][1] = four[1];
    b[e + 1][0] = four[2];
    b[e + 1][1] = four[3];
  }
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    const uint4 a = stage.weights[pair][tile][s][at.lane];
#pragma unroll
    for (int e = 0; e < kGemmEights; ++e) Element::mma(sums.at[tile][e], {a.x, a.y, a.z, a.w}, b[e]);
  }
}

// Gate and up, or two tiles of rows, stand in the same place of the same lane.
__device__ __forceinline__ void finish_gemm(const MatmulF& op, const GemmSums& sums, int pair, int token, int count,
                                            const FragmentLane& at) {
  const int outputs = matmul_outputs(op.weights, op.out.finish);
  const int first_row = pair * pair_outputs(op.out.finish) + at.g;
#pragma unroll
  for (int e = 0; e < kGemmEights; ++e) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const int t = token + 8 * e + 2 * at.t + c % 2, row = first_row + c / 2 * 8;
      if (t >= count) continue;
      if (op.out.finish == Finish::kSwiGlu) {
        if (row < outputs) finish(op.out, t, row, sums.at[0][e][c], sums.at[1][e][c]);
      } else {
        if (row < outputs) finish(op.out, t, row, sums.at[0][e][c]);
        if (row + kTileRows < outputs) finish(op.out, t, row + kTileRows, sums.at[1][e][c]);
      }
    }
  }
}

template <class Element>
__global__ void __launch_bounds__(kGemmThreads, 2) matmul_f_gemm(MatmulF op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count;
  const int first_pair = blockIdx.x * kGemmPairs, first_token = blockIdx.y * kGemmTokens;
  if (first_token >= count) return;
  const FragmentLane at;
  constexpr int kWarpTokens = 8 * kGemmEights, kAcross = kGemmTokens / kWarpTokens;
  const int warp = warp_number(), pair = warp / kAcross, token = warp % kAcross * kWarpTokens;
  auto& stages = shared_memory<GemmLayout>().stages;

  // Weights are copied two stages ahead; x is loaded two stages ahead, and stored one stage ahead.
  const int n = matmul_steps(op.weights);
  StageShare<Element> share(op, first_pair, first_token, count);
  const auto stage_of = [&](int step) -> GemmStage& { return stages[step / kStageSteps % kStages]; };
  const auto copy_weights = [&](int step) {
    if (step < n) share.copy_weights(stage_of(step), step);
    cp_async_commit();  // an empty group too: what is waited for is counted
  };
  copy_weights(0);
  copy_weights(kStageSteps);
  share.load_x(0);
  share.store_x(stage_of(0));
  share.load_x(kStageSteps);

  SlicedSums sums(n);
  for (int first = 0; first < n; first += kStageSteps) {
    cp_async_wait<1>();
    // The stage is there for all, and all have left the one before, which is filled next.
    __syncthreads();
    share.store_x(stage_of(first + kStageSteps));
    share.load_x(first + 2 * kStageSteps);
    copy_weights(first + 2 * kStageSteps);
    for (int step = first; step < first + kStageSteps && step < n; ++step) {
      while (step == sums.end) sums.next(n);
      multiply_step<Element>(stage_of(step), step % kStageSteps, pair, token, at, sums.slice);
    }
  }
  while (sums.number < kSlices) sums.next(n);

  if (first_pair + pair < tile_pairs(op.weights, op.out.finish)) {
    finish_gemm(op, sums.total, first_pair + pair, first_token + token, count, at);
  }
}

// --- f32.

constexpr int kF32Tokens = 16, kF32Cols = 128, kF32Threads = 256;
constexpr int kF32Warps = kF32Threads / 32;
constexpr int kF32Stride = kF32Cols + 1;  // floats: a warp's 32 rows at one column are in 32 banks

struct F32Layout {
  float weights[kPairRows][kF32Stride];
  float x[kF32Tokens][kF32Stride];
  PairSums<1, kF32Tokens> sums;
};

// A thread's share of the next columns, on its way from memory while the block works on those before. Warps take rows,
// lanes columns.
struct F32Columns {
  float weights[kPairRows / kF32Warps][kF32Cols / 32];
  float x[kF32Tokens / kF32Warps][kF32Cols / 32];

  __device__ __forceinline__ void load(const MatmulF& op, int pair, int first_token, int count, int first_col) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, cols = op.weights.cols;
    const auto* matrix = reinterpret_cast<const float*>(op.weights.quants);
#pragma unroll
    for (int i = 0; i < kPairRows / kF32Warps; ++i) {
      const int place = i * kF32Warps + warp;
      const int row = pair_tile(op.weights, op.out.finish, pair, place / kTileRows) * kTileRows + place % kTileRows;
      load_row(weights[i], matrix, row, op.weights.rows, first_col + lane, cols);
    }
#pragma unroll
    for (int i = 0; i < kF32Tokens / kF32Warps; ++i) {
      load_row(x[i], op.x, first_token + i * kF32Warps + warp, count, first_col + lane, cols);
    }
  }
  static __device__ __forceinline__ void load_row(float (&to)[kF32Cols / 32], const float* matrix, int row, int rows,
                                                  int col, int cols) {
#pragma unroll
    for (int j = 0; j < kF32Cols / 32; ++j) {
      const bool there = row < rows && col + 32 * j < cols;
      to[j] = there ? matrix[static_cast<std::int64_t>(row) * cols + col + 32 * j] : 0.0f;
    }
  }

  __device__ __forceinline__ void store(F32Layout& shared) const {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < kF32Cols / 32; ++j) {
#pragma unroll
      for (int i = 0; i < kPairRows / kF32Warps; ++i)
        shared.weights[i * kF32Warps + warp][lane + 32 * j] = weights[i][j];
#pragma unroll
      for (int i = 0; i < kF32Tokens / kF32Warps; ++i) shared.x[i * kF32Warps + warp][lane + 32 * j] = x[i][j];
    }
  }
};

__global__ void __launch_bounds__(kF32Threads) matmul_f32(MatmulF op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int count = *op.rows.count, pair = blockIdx.x, first = blockIdx.y * kF32Tokens;
  if (first >= count) return;
  const int row = threadIdx.x % 32, token = threadIdx.x / 32 * 2, cols = op.weights.cols;
  auto& shared = shared_memory<F32Layout>();
  float sums[2] = {};

  F32Columns next;
  next.load(op, pair, first, count, 0);
  for (int col = 0; col < cols; col += kF32Cols) {
    next.store(shared);
    __syncthreads();
    if (col + kF32Cols < cols) next.load(op, pair, first, count, col + kF32Cols);
    const int end = cols - col < kF32Cols ? cols - col : kF32Cols;
    for (int k = 0; k < end; ++k) {
      const float weight = shared.weights[row][k];
      sums[0] = fmaf(weight, shared.x[token][k], sums[0]);
      sums[1] = fmaf(weight, shared.x[token + 1][k], sums[1]);
    }
    __syncthreads();
  }
  shared.sums.at[0][token][row] = sums[0];
  shared.sums.at[0][token + 1][row] = sums[1];
  __syncthreads();
  finish_pair(shared.sums, op.weights, op.out, pair, first, count);
}

unsigned groups(int rows, int of) { return (rows + of - 1) / of; }

Status matmul_f32_rows(const MatmulF& op, Stream stream) {
  const dim3 grid(tile_pairs(op.weights, op.out.finish), groups(op.rows.capacity, kF32Tokens));
  return launch(matmul_f32, grid, kF32Threads, sizeof(F32Layout), stream, op, Overlap::kYes);
}

template <class Element>
Status matmul_halves(const MatmulF& op, Stream stream) {
  const unsigned pairs = tile_pairs(op.weights, op.out.finish), capacity = op.rows.capacity;
  if (capacity <= 8) {
    return launch(matmul_f_narrow<Element, 1>, dim3(pairs), kSliceThreads, sizeof(PairSums<kSlices, 8>), stream, op,
                  Overlap::kYes);
  }
  // The GEMM copies 16 bytes of x at a time; rows that do not consist of them go through the narrow kernel 16 by 16.
  if (capacity <= 16 || op.weights.cols % 4 != 0) {
    const dim3 grid(pairs, groups(capacity, 16));
    return launch(matmul_f_narrow<Element, 2>, grid, kSliceThreads, sizeof(PairSums<kSlices, 16>), stream, op,
                  Overlap::kYes);
  }
  const dim3 grid(groups(pairs, kGemmPairs), groups(capacity, kGemmTokens));
  return launch(matmul_f_gemm<Element>, grid, kGemmThreads, sizeof(GemmLayout), stream, op, Overlap::kYes);
}

}  // namespace

Status matmul_f(const MatmulF& op, Stream stream) {
  switch (op.weights.type) {
    case CRIA_TYPE_F16:
      return matmul_halves<F16>(op, stream);
    case CRIA_TYPE_BF16:
      return matmul_halves<Bf16>(op, stream);
    default:
      return matmul_f32_rows(op, stream);
  }
}

}  // namespace cria::cuda
