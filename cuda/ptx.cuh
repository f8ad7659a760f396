// Every instruction of the kernels that CUDA C++ has no name for: PTX under nvcc, the emulation's functions elsewhere.
//
// What only sm_90a has is a trap in code for a lesser GPU, so that one file compiles for both; who launches chooses.
// Addresses: `shared` is in shared memory, `global` in global memory; `b` is an mbarrier in shared memory.
#pragma once

#include "cuda.cuh"

namespace cria::cuda {

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// --- loads ---

/// 16 bytes, cached as usual.
__device__ __forceinline__ uint4 load_16(const void* global) { return __ldg(static_cast<const uint4*>(global)); }

/// 16 bytes that are read once (weights): they take no place in L1 from what is read again.
__device__ __forceinline__ uint4 load_stream_16(const void* global) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(global));
  return v;
}

// --- a lane's index ---

/// threadIdx.x, read anew: what a kernel makes of it in a loop is then made there, and not kept in registers across it.
__device__ __forceinline__ int thread_index() {
  int index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

// --- arithmetic of one lane ---

/// c + the sum of four products of signed bytes.
__device__ __forceinline__ int dp4a(int a, int b, int c) { return __dp4a(a, b, c); }

/// (a & mask) ^ flip: one instruction where mask and flip are constants too, of which the compiler makes two.
__device__ __forceinline__ uint32_t and_xor(uint32_t a, uint32_t mask, uint32_t flip) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(d) : "r"(a), "r"(mask), "r"(flip));
  return d;
}

/// 2^x to 2 ulp, one instruction; subnormals are zero.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// --- mma: products of a warp, operands laid out as emulation/matrix.h draws them ---

/// c[16][8] += a[16][32] b[32][8] in int32, exact.
__device__ __forceinline__ void mma_s8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// c[16][8] += a[16][16] b[16][8] in int32, exact.
__device__ __forceinline__ void mma_s8_k16(int (&c)[4], const uint32_t (&a)[2], uint32_t b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(b));
}

/// c[16][8] += a[16][16] b[16][8] of binary16.
__device__ __forceinline__ void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// The same of bfloat16.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Four 8x8 matrices of 16-bit elements; lane 8 i + j gives the address of row j of matrix i.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared))
               : "memory");
}

/// Two matrices; the addresses of lanes 16 to 31 are not used.
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared))
               : "memory");
}

/// Four matrices, each transposed on its way.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared))
               : "memory");
}

// --- cp.async: copies of one lane, in groups ---

/// 16 bytes to shared memory, past L1 and the registers.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

/// The same, or 16 zeros: rows past the end of a tensor need no branch. `global` is then not read, but must be mapped.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

/// 4 bytes, where what is copied begins at no multiple of 16.
__device__ __forceinline__ void cp_async_4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

/// Closes the group of the copies since the last commit.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for this lane's groups but for the kNewest last ones. Other lanes' copies need a barrier after it.
template <int kNewest>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}

// --- programmatic dependent launch ---

/// Waits until the kernel before this one in the stream has ended and its writes are seen.
__device__ __forceinline__ void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel begin, up to its own grid_dependency_wait().
__device__ __forceinline__ void grid_dependency_launch() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// --- mbarrier: a count of arrivals, and of bytes that copies bring, in phases of alternating parity ---

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CRIA_SM90A(...) __VA_ARGS__
#else
#define CRIA_SM90A(...) __trap()
#endif

/// One lane, once, before fence_mbarrier_init() and __syncthreads().
__device__ __forceinline__ void mbarrier_init(uint64_t* b, int arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(arrivals) : "memory");
}

/// Makes the mbarriers just made known to bulk copies.
__device__ __forceinline__ void fence_mbarrier_init() {
  CRIA_SM90A(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"));
}

__device__ __forceinline__ void mbarrier_arrive(uint64_t* b) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(shared_address(b)) : "memory");
}

/// Arrives, and tells the phase to wait for `bytes` of bulk copies too.
__device__ __forceinline__ void mbarrier_expect_tx(uint64_t* b, int bytes) {
  CRIA_SM90A(asm volatile(
      "{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(shared_address(b)), "r"(bytes)
      : "memory"));
}

/// Waits for the end of the phase of this parity; the first phase has parity 0.
__device__ __forceinline__ void mbarrier_wait(uint64_t* b, int parity) {
  CRIA_SM90A(
      asm volatile("{ .reg .pred done;\n"
                   "again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n"
                   "@!done bra again; }" ::"r"(shared_address(b)),
                   "r"(parity)
                   : "memory"));
}

// --- bulk copies ---

/// `bytes`, a multiple of 16, to shared memory by the copy engine, issued by one lane; they report to `b`. Who saw its
/// phase end reads them as if they had been stored before it, and so does who comes behind that one by other barriers:
/// a copy's end is followed by a fence between its proxy and the others' (PTX ISA, "Async Proxy").
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, int bytes, uint64_t* b) {
  CRIA_SM90A(
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                       shared_address(shared)),
                   "l"(global), "r"(bytes), "r"(shared_address(b))
                   : "memory"));
}

/// Makes this lane's writes to shared memory seen by wgmma and the copy engine.
__device__ __forceinline__ void fence_proxy_async() {
  CRIA_SM90A(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

// --- wgmma: products of four warps, running beside them ---

/// B of wgmma, K-major without swizzle: see emulation/wgmma.h for what the offsets are between.
__device__ __forceinline__ uint64_t smem_descriptor(const void* shared, int leading_bytes, int stride_bytes) {
  const auto field = [](uint32_t bytes) { return static_cast<uint64_t>(bytes >> 4 & 0x3fff); };
  return field(shared_address(shared)) | field(leading_bytes) << 16 | field(stride_bytes) << 32;
}

/// The descriptor of what is `bytes` further, a multiple of 16.
__device__ __forceinline__ uint64_t descriptor_at(uint64_t descriptor, uint32_t bytes) {
  return descriptor + (bytes >> 4);
}

/// Orders the lanes' writes to registers before the products that read them. Before the first of each group.
__device__ __forceinline__ void wgmma_fence() { CRIA_SM90A(asm volatile("wgmma.fence.sync.aligned;" ::: "memory")); }

/// Closes the group of the products since the last commit.
__device__ __forceinline__ void wgmma_commit() {
  CRIA_SM90A(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}

/// Waits for all groups but the kNewest last ones. Before it, neither accumulators nor B may be touched.
template <int kNewest>
__device__ __forceinline__ void wgmma_wait() {
  CRIA_SM90A(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kNewest) : "memory"));
}

/// c[64][128] = a[64][32] b[32][128] of int8 (+ c, where it is to `accumulate`). A warp holds 16 rows of a and c: a as
/// mma_s8's, c as 16 of mma_s8's c side by side.
__device__ __forceinline__ void wgmma_s8_n128(int (&c)[64], const uint32_t (&a)[4], uint64_t b_descriptor,
                                              bool accumulate) {
  CRIA_SM90A(asm volatile(
      "{ .reg .pred accumulate; setp.ne.b32 accumulate, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
      " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, accumulate; }"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3]), "+r"(c[4]), "+r"(c[5]), "+r"(c[6]), "+r"(c[7]), "+r"(c[8]),
        "+r"(c[9]), "+r"(c[10]), "+r"(c[11]), "+r"(c[12]), "+r"(c[13]), "+r"(c[14]), "+r"(c[15]), "+r"(c[16]),
        "+r"(c[17]), "+r"(c[18]), "+r"(c[19]), "+r"(c[20]), "+r"(c[21]), "+r"(c[22]), "+r"(c[23]), "+r"(c[24]),
        "+r"(c[25]), "+r"(c[26]), "+r"(c[27]), "+r"(c[28]), "+r"(c[29]), "+r"(c[30]), "+r"(c[31]), "+r"(c[32]),
        "+r"(c[33]), "+r"(c[34]), "+r"(c[35]), "+r"(c[36]), "+r"(c[37]), "+r"(c[38]), "+r"(c[39]), "+r"(c[40]),
        "+r"(c[41]), "+r"(c[42]), "+r"(c[43]), "+r"(c[44]), "+r"(c[45]), "+r"(c[46]), "+r"(c[47]), "+r"(c[48]),
        "+r"(c[49]), "+r"(c[50]), "+r"(c[51]), "+r"(c[52]), "+r"(c[53]), "+r"(c[54]), "+r"(c[55]), "+r"(c[56]),
        "+r"(c[57]), "+r"(c[58]), "+r"(c[59]), "+r"(c[60]), "+r"(c[61]), "+r"(c[62]), "+r"(c[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor), "r"(static_cast<int>(accumulate))));
}

/// c[64][128] = a[64][16] b[16][128] of binary16 in binary32 (+ c, where it is to `accumulate`): a as mma_f16's.
__device__ __forceinline__ void wgmma_f16_n128(float (&c)[64], const uint32_t (&a)[4], uint64_t b_descriptor,
                                               bool accumulate) {
  CRIA_SM90A(asm volatile(
      "{ .reg .pred accumulate; setp.ne.b32 accumulate, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
      " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, accumulate, 1, 1, 0; }"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),
        "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]),
        "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]),
        "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]),
        "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]),
        "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
        "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]),
        "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor), "r"(static_cast<int>(accumulate))));
}

/// Waits as wgmma_wait() does, for c too: what reads it stays behind the wait.
template <int kNewest>
__device__ __forceinline__ void wgmma_wait(float (&c)[64]) {
  wgmma_wait<kNewest>();
#pragma unroll
  for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(c[i])::"memory");
}

/// Gives registers to, or takes them from, the warps of a warpgroup: a producer needs few, a consumer many.
template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_inc() {
  CRIA_SM90A(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters)));
}
template <int kRegisters>
__device__ __forceinline__ void setmaxnreg_dec() {
  CRIA_SM90A(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters)));
}

#undef CRIA_SM90A

#else

using emulation::and_xor;
inline int thread_index() { return static_cast<int>(threadIdx.x); }
using emulation::bulk_copy;
using emulation::cp_async_16;
using emulation::cp_async_4;
using emulation::cp_async_commit;
using emulation::cp_async_wait;
using emulation::descriptor_at;
using emulation::dp4a;
using emulation::exp2_approx;
using emulation::fence_mbarrier_init;
using emulation::fence_proxy_async;
using emulation::grid_dependency_launch;
using emulation::grid_dependency_wait;
using emulation::ldmatrix_x2;
using emulation::ldmatrix_x4;
using emulation::ldmatrix_x4_trans;
using emulation::load_16;
using emulation::load_stream_16;
using emulation::mbarrier_arrive;
using emulation::mbarrier_expect_tx;
using emulation::mbarrier_init;
using emulation::mbarrier_wait;
using emulation::mma_bf16;
using emulation::mma_f16;
using emulation::mma_s8;
using emulation::mma_s8_k16;
using emulation::setmaxnreg_dec;
using emulation::setmaxnreg_inc;
using emulation::smem_descriptor;
using emulation::wgmma_commit;
using emulation::wgmma_f16_n128;
using emulation::wgmma_fence;
using emulation::wgmma_s8_n128;
using emulation::wgmma_wait;

#endif

}  // namespace cria::cuda
