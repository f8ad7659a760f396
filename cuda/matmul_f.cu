// Products with f16, bf16 and f32 weights; matmul.h has the formula and the order of the sums.
//
// f16 and bf16 go through the tensor cores for every number of rows, over steps of 16 columns:
//
//     up to 16 rows   a block is a pair of row tiles, a warp one slice of the columns (as matmul_q.cuh draws it); a
//     lane
//                     has its 16 bytes of both tiles, one mma's operand A each, under way 6 or 4 steps before they are
//                     used: 8 warps * 6 * 1 KiB = 48 KiB a block in flight, of the 27 KB that an H200's
//                     multiprocessor needs. A step costs some 40 instructions for 512 weights where bandwidth allows
//                     28 * 8
//     above           a block is 4 pairs by 64 tokens, which takes the slices one after another:
//
//                         64 tokens                  stages of 32 columns in shared memory, by cp.async:
//                       ┌────────┬────────┐             weights   8 tiles by 2 steps, fragments as they are     8 KiB
//                pair 0 │ warp 0 │ warp 1 │             x         64 rows of 32 floats, 40 apart              10 KiB
//                pair 1 │ warp 2 │ warp 3 │          Three stages are 54 KiB, so two blocks fit a multiprocessor
//                pair 2 │ warp 4 │ warp 5 │          of 164 KiB with room to spare. A lane's fragment is one
//                pair 3 │ warp 6 │ warp 7 │          16-byte load without a conflict; its pairs of x, 8 bytes, meet
//                       └────────┴────────┘          40 g + 2 t: half a warp covers all banks once. Their rounding
//                                                    is one instruction a pair
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

CRIA_BOTH int steps(const Weights& weights) { return (weights.cols + kStep - 1) / kStep; }

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
  return op.weights.quants + tile * steps(op.weights) * kFragmentBytes;
}

// --- Up to 16 rows.

template <int kEights>
struct NarrowSlot {
  uint4 weights[2];
  float x[kEights][2][2];  // [eight tokens][columns 2t and 2t + 8][their neighbours]
};

template <class Element, int kEights>
__global__ void __launch_bounds__(kSliceThreads, 1) matmul_f_narrow(MatmulF op) {
  const int count = *op.rows.count, slice = warp_number(), pair = blockIdx.x;
  const int first = blockIdx.y * kEights * 8;
  if (first >= count) return;
  const FragmentLane at;
  const std::uint8_t* fragments[2];
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) fragments[tile] = tile_fragments(op, pair, tile) + at.lane * 16;
  // In place of a token past the end stands the last; what comes of it is dropped.
  const float* x[kEights];
#pragma unroll
  for (int e = 0; e < kEights; ++e) {
    const int token = first + 8 * e + at.g;
    x[e] = op.x + static_cast<std::int64_t>(token < count ? token : count - 1) * op.weights.cols;
  }
  float sums[2][kEights][4] = {};

  const auto load = [&](int step, NarrowSlot<kEights>& slot) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) slot.weights[tile] = load_stream_16(fragments[tile] + step * kFragmentBytes);
#pragma unroll
    for (int e = 0; e < kEights; ++e) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int col = step * kStep + 2 * at.t + i / 2 * 8 + i % 2;
        slot.x[e][i / 2][i % 2] = col < op.weights.cols ? x[e][col] : 0.0f;
      }
    }
  };

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

  const int n = steps(op.weights);
  constexpr int kAhead = kEights == 1 ? 6 : 4;
  load_ahead<kAhead, NarrowSlot<kEights>>(slice_begin(slice, n), slice_begin(slice + 1, n), load, use);

  auto& shared = shared_memory<PairSums<kSlices, kEights * 8>>();
  put_sums<kSlices, kEights>(shared, slice, at, sums);
  __syncthreads();
  finish_pair(shared, op.weights, op.out, pair, first, count);
}

// --- Above 16 rows.

constexpr int kGemmPairs = 4, kGemmTokens = 64, kGemmEights = 4;
constexpr int kGemmThreads = kGemmPairs * kGemmTokens / (8 * kGemmEights) * 32;
constexpr int kStages = 3, kStageSteps = 2, kStageCols = kStageSteps * kStep;
constexpr int kStageStride = kStageCols + 8;  // floats from token to token

struct GemmStage {
  uint4 weights[kGemmPairs][2][kStageSteps][32];
  float x[kGemmTokens][kStageStride];
};
struct GemmLayout {
  GemmStage stages[kStages];
};

// One thread's share of a stage: steps [step, step + 2) of the block's weights and tokens. Steps and columns past the
// end, and tokens past the count, are zeros. Needs rows of x that are a multiple of 16 bytes.
__device__ __forceinline__ void copy_stage(const MatmulF& op, GemmStage& stage, int first_pair, int first_token,
                                           int step, int count) {
  const int n = steps(op.weights), pairs = tile_pairs(op.weights, op.out.finish);
  constexpr int kWeightCopies = kGemmPairs * 2 * kStageSteps * 32;
  for (int i = threadIdx.x; i < kWeightCopies; i += kGemmThreads) {
    const int lane = i % 32, s = i / 32 % kStageSteps, tile = i / 32 / kStageSteps % 2;
    const int p = i / 32 / kStageSteps / 2, pair = first_pair + p < pairs ? first_pair + p : pairs - 1;
    const bool there = step + s < n;
    const std::uint8_t* from = tile_fragments(op, pair, tile) + (there ? step + s : 0) * kFragmentBytes + lane * 16;
    cp_async_16(&stage.weights[p][tile][s][lane], from, there);
  }
  constexpr int kRowCopies = kStageCols / 4;
  for (int i = threadIdx.x; i < kGemmTokens * kRowCopies; i += kGemmThreads) {
    const int token = i / kRowCopies, col = step * kStep + i % kRowCopies * 4;
    const bool there = first_token + token < count && col < op.weights.cols;
    const std::int64_t row = there ? first_token + token : 0;
    cp_async_16(&stage.x[token][i % kRowCopies * 4], op.x + row * op.weights.cols + (there ? col : 0), there);
  }
}

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
  for (int e = 0; e < kGemmEights; ++e) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto* from = &stage.x[token + 8 * e + at.g][s * kStep + 8 * half + 2 * at.t];
      const float2 x = *reinterpret_cast<const float2*>(from);
      b[e][half] = Element::round(x.x, x.y);
    }
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
  const int count = *op.rows.count;
  const int first_pair = blockIdx.x * kGemmPairs, first_token = blockIdx.y * kGemmTokens;
  if (first_token >= count) return;
  const FragmentLane at;
  constexpr int kWarpTokens = 8 * kGemmEights, kAcross = kGemmTokens / kWarpTokens;
  const int warp = warp_number(), pair = warp / kAcross, token = warp % kAcross * kWarpTokens;
  auto& stages = shared_memory<GemmLayout>().stages;

  const int n = steps(op.weights);
  const auto copy = [&](int step) {
    if (step < n) copy_stage(op, stages[step / kStageSteps % kStages], first_pair, first_token, step, count);
    cp_async_commit();  // an empty group too: what is waited for is counted
  };
  SlicedSums sums(n);
  for (int stage = 0; stage < kStages - 1; ++stage) copy(stage * kStageSteps);
  for (int first = 0; first < n; first += kStageSteps) {
    cp_async_wait<kStages - 2>();
    // The stage has landed for all, and all have left the one before, which the next copies fill.
    __syncthreads();
    copy(first + (kStages - 1) * kStageSteps);
    for (int step = first; step < first + kStageSteps && step < n; ++step) {
      while (step == sums.end) sums.next(n);
      multiply_step<Element>(stages[step / kStageSteps % kStages], step % kStageSteps, pair, token, at, sums.slice);
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
  return launch(matmul_f32, grid, kF32Threads, sizeof(F32Layout), stream, op);
}

template <class Element>
Status matmul_halves(const MatmulF& op, Stream stream) {
  const unsigned pairs = tile_pairs(op.weights, op.out.finish), capacity = op.rows.capacity;
  if (capacity <= 8) {
    return launch(matmul_f_narrow<Element, 1>, dim3(pairs), kSliceThreads, sizeof(PairSums<kSlices, 8>), stream, op);
  }
  // The GEMM copies 16 bytes of x at a time; rows that do not consist of them go through the narrow kernel 16 by 16.
  if (capacity <= 16 || op.weights.cols % 4 != 0) {
    const dim3 grid(pairs, groups(capacity, 16));
    return launch(matmul_f_narrow<Element, 2>, grid, kSliceThreads, sizeof(PairSums<kSlices, 16>), stream, op);
  }
  const dim3 grid(groups(pairs, kGemmPairs), groups(capacity, kGemmTokens));
  return launch(matmul_f_gemm<Element>, grid, kGemmThreads, sizeof(GemmLayout), stream, op);
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
