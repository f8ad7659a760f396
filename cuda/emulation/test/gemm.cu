// A block computes a tile of 64 x 64 in four warps of 16 rows; the next 32 columns of A and B are copied while these
// are multiplied.
#include "gemm.h"
#include "launch.cuh"
#include "ptx.cuh"

namespace cria::cuda::emulation::test {

constexpr int kTile = 64, kDepth = 32, kStages = 2, kThreads = 128;
// 80 bytes: five 16-byte columns of banks, so that the eight rows of an ldmatrix fall into eight different ones.
constexpr int kPitch = 40;

namespace {
struct Layout {
  unsigned short a[kStages][kTile][kPitch];
  unsigned short b[kStages][kTile][kPitch];
};
}  // namespace

template <LeftOut kLeftOut>
static __device__ __forceinline__ void load_stage(Layout& shared, const Gemm& op, int stage, int k) {
  for (int i = threadIdx.x; i < kTile * kDepth / 8; i += kThreads) {
    const int row = i / 4, column = i % 4 * 8;
    cp_async_16(&shared.a[stage][row][column], op.a + (blockIdx.y * kTile + row) * op.k + k + column);
    cp_async_16(&shared.b[stage][row][column], op.b + (blockIdx.x * kTile + row) * op.k + k + column);
  }
  if (kLeftOut != LeftOut::kCommit) cp_async_commit();
}

template <LeftOut kLeftOut>
__global__ void __launch_bounds__(kThreads) gemm_kernel(Gemm op) {
  auto& shared = shared_memory<Layout>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sums[8][4] = {};
  load_stage<kLeftOut>(shared, op, 0, 0);
  for (int i = 0; i < op.k / kDepth; ++i) {
    if (i + 1 < op.k / kDepth) {
      load_stage<kLeftOut>(shared, op, (i + 1) % kStages, (i + 1) * kDepth);
      if (kLeftOut != LeftOut::kWait) cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    if (kLeftOut != LeftOut::kBarrierAfterCopy) __syncthreads();
    const int stage = i % kStages;
    for (int k = 0; k < kDepth; k += 16) {
      uint32_t a[4];
      ldmatrix_x4(a, &shared.a[stage][warp * 16 + lane % 16][k + lane / 16 * 8]);
      for (int n = 0; n < 8; n += 2) {
        uint32_t b[4];
        ldmatrix_x4(b, &shared.b[stage][n * 8 + lane % 8 + lane / 16 * 8][k + lane / 8 % 2 * 8]);
        mma_f16(sums[n], a, {b[0], b[1]});
        mma_f16(sums[n + 1], a, {b[2], b[3]});
      }
    }
    if (kLeftOut != LeftOut::kBarrierBeforeCopy) __syncthreads();
  }
  for (int n = 0; n < 8; ++n) {
    for (int r = 0; r < 4; ++r) {
      const int row = blockIdx.y * kTile + warp * 16 + lane / 4 + 8 * (r >> 1);
      op.c[row * op.n + blockIdx.x * kTile + n * 8 + lane % 4 * 2 + (r & 1)] = sums[n][r];
    }
  }
}

template <LeftOut kLeftOut>
Status gemm(const Gemm& op, Stream stream) {
  return launch(gemm_kernel<kLeftOut>, dim3(op.n / kTile, op.m / kTile), kThreads, sizeof(Layout), stream, op);
}

template Status gemm<LeftOut::kNothing>(const Gemm&, Stream);
template Status gemm<LeftOut::kCommit>(const Gemm&, Stream);
template Status gemm<LeftOut::kWait>(const Gemm&, Stream);
template Status gemm<LeftOut::kBarrierAfterCopy>(const Gemm&, Stream);
template Status gemm<LeftOut::kBarrierBeforeCopy>(const Gemm&, Stream);

}  // namespace cria::cuda::emulation::test
