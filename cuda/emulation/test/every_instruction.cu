// Both compilers see each function of ptx.cuh here: nvcc must accept the PTX for sm_80 and sm_90a. Two kernels, for
// what sm_80 lacks is a trap there, and nothing after a trap is compiled. The numbers mean nothing.
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

__global__ void __launch_bounds__(128) every_instruction_of_sm80(EveryInstruction op) {
  auto& shared = shared_memory<Layout>();
  const int thread = thread_index();
  grid_dependency_wait();
  cp_async_16(&shared.bytes[thread], op.global);
  cp_async_16(&shared.bytes[128 + thread], op.global, thread % 2 == 0);
  cp_async_4(&shared.bytes[256 + thread], op.global);
  cp_async_commit();
  cp_async_wait<0>();
  if (thread == 0) mbarrier_init(&shared.mbarrier, 128);
  __syncthreads();
  mbarrier_arrive(&shared.mbarrier);

  const uint4 cached = load_16(op.global);
  const uint4 streamed = load_stream_16(op.global);
  uint32_t a[4], b[2], t[4];
  ldmatrix_x4(a, &shared.bytes[thread % 32]);
  ldmatrix_x2(b, &shared.bytes[thread % 32]);
  ldmatrix_x4_trans(t, &shared.bytes[thread % 32]);
  int s8[4] = {dp4a(cached.x, and_xor(streamed.x, 0xff, 1), 1)};
  float f16[4] = {exp2_approx(1.0f)}, bf16[4] = {};
  mma_s8(s8, a, b);
  const uint32_t half[2] = {a[0], a[1]};
  mma_s8_k16(s8, half, b[0]);
  mma_f16(f16, a, b);
  mma_bf16(bf16, t, b);
  op.out[thread] = s8[0] + (f16[0] > 0.0f) + (bf16[0] > 0.0f);
  grid_dependency_launch();
}

__global__ void __launch_bounds__(128) every_instruction_of_sm90a(EveryInstruction op) {
  auto& shared = shared_memory<Layout>();
  setmaxnreg_dec<168>();
  setmaxnreg_inc<240>();
  if (threadIdx.x == 0) {
    mbarrier_init(&shared.mbarrier, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_tx(&shared.mbarrier, 8192);
    bulk_copy(shared.bytes, op.global, 8192, &shared.mbarrier);
  }
  mbarrier_wait(&shared.mbarrier, 0);
  mbarrier_wait(&shared.mbarrier, 0);  // twice: its loop's label must be its own
  fence_proxy_async();

  const uint32_t a[4] = {1, 2, 3, 4};
  const uint64_t b = descriptor_at(smem_descriptor(shared.bytes, 128, 256), 16 * 256);
  int sums[64];
  wgmma_fence();
  wgmma_s8_n128(sums, a, b, false);
  wgmma_commit();
  wgmma_wait<0>();
  float halves[64];
  wgmma_fence();
  wgmma_f16_n128(halves, a, b, false);
  wgmma_commit();
  wgmma_wait<0>(halves);
  int sum = 0;
  for (int i = 0; i < 64; ++i) sum += sums[i] + (halves[i] > 0.0f);
  op.out[threadIdx.x] = sum;
}

Status every_instruction(const EveryInstruction& op, Stream stream) {
  const Status status = launch(every_instruction_of_sm80, 1, 128, sizeof(Layout), stream, op, Overlap::kYes);
  return status ? status : launch(every_instruction_of_sm90a, 1, 128, sizeof(Layout), stream, op);
}

}  // namespace cria::cuda::emulation::test
