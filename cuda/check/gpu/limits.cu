#include "../../launch.cuh"
#include "../../ptx.cuh"
#include "limits.h"

namespace cria::cuda::check {
namespace {

// Four loads of 16 bytes a thread and 2,048 threads on a multiprocessor are 128 KiB in flight there, almost five times
// what 4.8 TB/s at 750 ns need.
constexpr int kReadThreads = 256, kReadBlocks = 8, kReadLoads = 4;

struct Reading {
  const uint4* words;
  std::size_t count;
  std::uint32_t* sink;
};

__global__ void __launch_bounds__(kReadThreads, kReadBlocks) read_kernel(Reading op) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * kReadThreads;
  std::uint32_t bits = 0;
  for (std::size_t first = blockIdx.x * kReadThreads + threadIdx.x; first < op.count; first += kReadLoads * step) {
    uint4 loads[kReadLoads] = {};
#pragma unroll
    for (int i = 0; i < kReadLoads; ++i) {
      if (first + i * step < op.count) loads[i] = load_stream_16(op.words + first + i * step);
    }
#pragma unroll
    for (int i = 0; i < kReadLoads; ++i) bits |= loads[i].x ^ loads[i].y ^ loads[i].z ^ loads[i].w;
  }
  if (bits == 1) *op.sink = bits;  // so that the loads are not left out; what is read has more bits
}

// Sixteen warps a multiprocessor, four for each of its tensor cores: one multiplies while others wait for theirs.
constexpr int kWarps = 16, kThreads = 32 * kWarps;
constexpr int kRounds = 4096;  // some milliseconds
constexpr int kTiles = 8;      // independent sums of a warp, of mma.sync
constexpr int kProducts = 4;   // of wgmma, one after another on one sum
constexpr int kWarpgroupCols = 128;

struct Multiplying {
  std::uint32_t* sink;
};

// Bits that are bf16 and int8 alike: bf16 of either sign between 2^-24 and 2^-22, whose sums stay finite.
__device__ std::uint32_t random_bits(std::uint32_t seed) {
  seed = (seed ^ seed >> 16) * 0x7feb352du;
  seed = (seed ^ seed >> 15) * 0x846ca68bu;
  return ((seed ^ seed >> 16) & 0x80ff80ffu) | 0x33003300u;
}

template <class Number>
__device__ void keep(const Number (&sums)[4], std::uint32_t* sink) {
  if (sums[0] == Number(1) && sums[1] == Number(2)) *sink = 1;  // so that the products are not left out
}

__device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  mma_bf16(c, a, b);
}
__device__ __forceinline__ void mma(int (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  mma_s8(c, a, b);
}

template <class Number>
__global__ void __launch_bounds__(kThreads) mma_kernel(Multiplying op) {
  const std::uint32_t seed = 8 * threadIdx.x;
  const std::uint32_t a[4] = {random_bits(seed), random_bits(seed + 1), random_bits(seed + 2), random_bits(seed + 3)};
  const std::uint32_t b[2] = {random_bits(seed + 4), random_bits(seed + 5)};
  Number sums[kTiles][4] = {};
  for (int round = 0; round < kRounds; ++round) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) mma(sums[tile], a, b);
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) keep(sums[tile], op.sink);
}

// B of wgmma: 128 rows of 32 bytes, in core matrices of 8 rows by 16 bytes.
struct WgmmaShared {
  std::uint32_t b[kWarpgroupCols * 32 / 4];
};

// c[64][128] += a[64][16] b[16][128] of bfloat16, as wgmma_s8_n128 (ptx.cuh).
__device__ __forceinline__ void wgmma(float (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
      " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
      " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), "+f"(c[8]),
        "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]), "+f"(c[15]), "+f"(c[16]),
        "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]), "+f"(c[22]), "+f"(c[23]), "+f"(c[24]),
        "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]), "+f"(c[29]), "+f"(c[30]), "+f"(c[31]), "+f"(c[32]),
        "+f"(c[33]), "+f"(c[34]), "+f"(c[35]), "+f"(c[36]), "+f"(c[37]), "+f"(c[38]), "+f"(c[39]), "+f"(c[40]),
        "+f"(c[41]), "+f"(c[42]), "+f"(c[43]), "+f"(c[44]), "+f"(c[45]), "+f"(c[46]), "+f"(c[47]), "+f"(c[48]),
        "+f"(c[49]), "+f"(c[50]), "+f"(c[51]), "+f"(c[52]), "+f"(c[53]), "+f"(c[54]), "+f"(c[55]), "+f"(c[56]),
        "+f"(c[57]), "+f"(c[58]), "+f"(c[59]), "+f"(c[60]), "+f"(c[61]), "+f"(c[62]), "+f"(c[63])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#else
  __trap();
#endif
}
__device__ __forceinline__ void wgmma(int (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b) {
  wgmma_s8_n128(c, a, b, true);
}

template <class Number>
__global__ void __launch_bounds__(kThreads) wgmma_kernel(Multiplying op) {
  auto& shared = shared_memory<WgmmaShared>();
  for (int i = threadIdx.x; i < kWarpgroupCols * 8; i += kThreads) shared.b[i] = random_bits(i);
  fence_proxy_async();
  __syncthreads();
  // Core matrices of 128 bytes: along the columns of 16 bytes first, then along the rows by eight.
  const std::uint64_t b = smem_descriptor(shared.b, 128, 256);
  const std::uint32_t seed = 4 * threadIdx.x;
  const std::uint32_t a[4] = {random_bits(seed), random_bits(seed + 1), random_bits(seed + 2), random_bits(seed + 3)};
  Number sums[64] = {};
  for (int round = 0; round < kRounds / kProducts; ++round) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kProducts; ++i) wgmma(sums, a, b);
    wgmma_commit();
    wgmma_wait<0>();
  }
  const Number some[4] = {sums[0], sums[17], sums[34], sums[63]};
  keep(some, op.sink);
}

}  // namespace

Status read_memory(const void* memory, std::size_t bytes, std::uint32_t* sink, int multiprocessors, Stream stream) {
  return launch(read_kernel, kReadBlocks * multiprocessors, kReadThreads, 0, stream,
                Reading{static_cast<const uint4*>(memory), bytes / sizeof(uint4), sink});
}

Status multiply(Multiplier multiplier, Operands operands, std::uint32_t* sink, int multiprocessors, Stream stream) {
  const bool wide = multiplier == Multiplier::kWgmma, bf16 = operands == Operands::kBf16;
  const auto kernel =
      wide ? (bf16 ? wgmma_kernel<float> : wgmma_kernel<int>) : (bf16 ? mma_kernel<float> : mma_kernel<int>);
  return launch(kernel, multiprocessors, kThreads, wide ? sizeof(WgmmaShared) : 0, stream, Multiplying{sink});
}

std::string cuda_versions() {
  int runtime = 0, driver = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaDriverGetVersion(&driver);
  const auto shown = [](int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  };
  return shown(runtime) + ", driver " + shown(driver);
}

double multiplied(Multiplier multiplier, Operands operands, int multiprocessors) {
  const double depth = operands == Operands::kBf16 ? 16 : 32;
  const double warp = multiplier == Multiplier::kWgmma ? 16.0 * kWarpgroupCols : 16.0 * 8 * kTiles;
  return 2.0 * multiprocessors * kWarps * kRounds * warp * depth;
}

}  // namespace cria::cuda::check
