// Both compilers see each function of ptx.cuh here: nvcc must accept the PTX for sm_80 and sm_90a, where what sm_80
// lacks is a trap. The numbers mean nothing.
#include "every_instruction.h"
#include "launch.cuh"
#include "ptx.cuh"

namespace cria::cuda::emulation::test {

namespace {
struct Layout {
  uint4 bytes[1024];
  uint64_t mbarrier;
};
}  // namespace

__global__ void __launch_bounds__(128) every_instruction_kernel(EveryInstruction op) {
  auto& shared = shared_memory<Layout>();
  grid_dependency_wait();
  setmaxnreg_dec<168>();
  setmaxnreg_inc<240>();
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.mbarrier, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_tx(&shared.mbarrier, 8192);
    bulk_copy(&shared.bytes[512], op.global, 8192, &shared.mbarrier);
  }
  cp_async_16(&shared.bytes[threadIdx.x], op.global);
  cp_async_16(&shared.bytes[128 + threadIdx.x], op.global, threadIdx.x % 2 == 0);
  cp_async_4(&shared.bytes[256 + threadIdx.x], op.global);
  cp_async_commit();
  cp_async_wait<0>();
  fence_proxy_async();
  __syncthreads();
  mbarrier_wait(&shared.mbarrier, 0);
  mbarrier_wait(&shared.mbarrier, 0);  // twice: its loop's label must be its own

  const uint4 cached = load_16(op.global);
  const uint4 streamed = load_stream_16(op.global);
  uint32_t a[4], b[2], t[4];
  ldmatrix_x4(a, &shared.bytes[threadIdx.x % 32]);
  ldmatrix_x2(b, &shared.bytes[threadIdx.x % 32]);
  ldmatrix_x4_trans(t, &shared.bytes[threadIdx.x % 32]);
  int s8[4] = {dp4a(cached.x, and_xor(streamed.x, 0xff, 1), 1)};
  float f16[4] = {exp2_approx(1.0f)}, bf16[4] = {};
  mma_s8(s8, a, b);
  mma_f16(f16, a, b);
  mma_bf16(bf16, t, b);

  int sums[64];
  wgmma_fence();
  wgmma_s8_n128(sums, a, smem_descriptor(&shared.bytes[512], 128, 256), false);
  wgmma_commit();
  wgmma_wait<0>();
  float halves[64];
  wgmma_fence();
  wgmma_f16_n128(halves, a, smem_descriptor(&shared.bytes[512], 128, 256), false);
  wgmma_commit();
  wgmma_wait<0>(halves);
  int sum = s8[0] + static_cast<int>(f16[0]) + static_cast<int>(bf16[0]);
  for (int i = 0; i < 64; ++i) sum += sums[i] + (halves[i] > 0.0f);
  op.out[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x == 0) mbarrier_arrive(&shared.mbarrier);
  grid_dependency_launch();
}

Status every_instruction(const EveryInstruction& op, Stream stream) {
  return launch(every_instruction_kernel, 1, 128, sizeof(Layout), stream, op, Overlap::kYes);
}

}  // namespace cria::cuda::emulation::test
