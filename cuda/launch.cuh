// How a kernel is started: every kernel takes one trivially copyable struct, by value.
#pragma once

#include <type_traits>

#include "cuda.cuh"
#include "stream.h"

#ifdef __CUDACC__
#include <map>
#include <mutex>
#endif

namespace cria::cuda {

/// Whether a kernel may begin while the one before it in its stream still runs (programmatic dependent launch, sm_90).
/// It must then call grid_dependency_wait() before it reads or writes what that one writes or reads.
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
  config.numAttrs = overlap == Overlap::kYes ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, operands);
#else
  return emulation::launch_kernel(reinterpret_cast<const void*>(kernel), __PRETTY_FUNCTION__, grid, threads, shared,
                                  overlap == Overlap::kYes, stream, [kernel, operands] { kernel(operands); });
#endif
}

}  // namespace cria::cuda
