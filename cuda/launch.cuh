// How a kernel is started: every kernel takes one trivially copyable struct, by value, and overlaps with the one before
// it in its stream where the GPU can (programmatic dependent launch, from sm_90 on), so that the microsecond or so in
// which blocks are placed and begin hides behind that one's work.
//
//     kernel n        launch() wait() ─ work ──────────────┐ all its blocks have ended, its writes are seen
//     kernel n + 1           └─> weights, launch() wait() ─┴─ work ──────────────┐
//     kernel n + 2                            └─> weights, launch() wait() ──────┴─ work
//
// grid_dependency_launch(): where all blocks of a grid have called it or ended, those of the next one may begin. It
// promises nothing of memory, so it comes first, or after loads that are to be issued before the next kernel's. Whoever
// begins early takes no place that an earlier grid needs, for all of that one's blocks have theirs by then.
//
// grid_dependency_wait(): the grid before this one has ended, all of it. Every thread of every block calls it, before
// it returns or touches what any kernel writes, the counts of rows included. Then the grids before that one have ended
// too: each ended only after its own threads had waited for the one before. So behind its wait a kernel is where it
// would be without any overlap, whichever earlier kernel wrote what it reads or still read what it writes over (the
// quantised rows, which many ops use in turn). Before its wait it may read what no kernel writes: its operands and the
// weights.
//
// Only kernels overlap: a copy, a memset or a graph that is launched waits for all before it, and what follows waits
// for all of that. A captured launch has a programmatic edge to the kernel before it in its graph; the first of a graph
// has none, and its wait is over at once.
#pragma once

#include <type_traits>

#include "cuda.cuh"
#include "ptx.cuh"
#include "stream.h"

#ifdef __CUDACC__
#include <map>
#include <mutex>
#endif

namespace cria::cuda {

/// Whether a kernel may begin while the one before it in its stream still runs: only one whose every thread calls
/// grid_dependency_wait().
enum class Overlap { kNo, kYes };

#ifdef __CUDACC__
/// More than 48 KiB of shared memory is given only to a kernel that asked. Asked once for each size that it grows to.
inline cudaError_t allow_shared(const void* kernel, std::size_t shared) {
  if (shared <= 48 << 10) return cudaSuccess;
  // Never destroyed: a thread may launch while the process ends.
  static auto& mutex = *new std::mutex;
  static auto& allowed = *new std::map<const void*, std::size_t>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::size_t& most = allowed[kernel];
  if (shared <= most) return cudaSuccess;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error == cudaSuccess) most = shared;
  return error;
}

/// Whether the code that runs has grid_dependency_wait(): `kernel` tells for all, which are compiled for the same GPUs.
/// A GPU's own version does not: one newer than all of those runs what was compiled for 8.0, where the wait is nothing.
/// Of a toolkit or a driver before CUDA 12.3, whose graphs have no programmatic edges, nothing is asked.
inline bool waits_for_grid(const void* kernel) {
  static const bool waits = [kernel] {
    constexpr int kEdges = 12030;  // CUDA 12.3
    int driver = 0;
    cudaFuncAttributes attributes{};
    return CUDART_VERSION >= kEdges && cudaDriverGetVersion(&driver) == cudaSuccess && driver >= kEdges &&
           cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return waits;
}
#endif

/// Enqueues kernel(operands) for `grid` blocks of `threads` threads, each with `shared` bytes of shared memory. A grid
/// without blocks is nothing to do. The result is the launch's; what the kernel does wrong is found by later calls.
template <class Operands>
Status launch(void (*kernel)(Operands), dim3 grid, int threads, std::size_t shared, Stream stream,
              const Operands& operands, Overlap overlap = Overlap::kNo) {
  static_assert(std::is_trivially_copyable<Operands>::value, "operands travel to the device as bytes");
  static_assert(sizeof(Operands) <= 4096, "a kernel takes 4 KiB of operands at most");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
#ifdef __CUDACC__
  const cudaError_t error = allow_shared(reinterpret_cast<const void*>(kernel), shared);
  if (error != cudaSuccess) return error;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlap == Overlap::kYes && waits_for_grid(reinterpret_cast<const void*>(kernel)) ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, operands);
#else
  return emulation::launch_kernel(reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__, grid, threads, shared,
                                  overlap == Overlap::kYes, stream, [kernel, operands] { kernel(operands); });
#endif
}

}  // namespace cria::cuda
