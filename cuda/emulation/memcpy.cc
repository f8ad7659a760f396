// cudaMemcpy and cudaMemset.
#include <cstring>
#include <vector>

#include "allocations.h"
#include "context.h"
#include "runtime.h"
#include "streams.h"

using namespace cria::cuda::emulation;

// Whether each side is where `kind` says. Pinned memory is the host's, but the device may be told to use it too.
static bool sides_fit(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (to_device && home_of(to, bytes) == Home::kPageable) return false;
  return !from_device || home_of(from, bytes) != Home::kPageable;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  if (!sides_fit(to, from, bytes, kind)) return note(cudaErrorInvalidValue);
  const auto copy = [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  };
  if (capturing(stream)) return enqueue(stream, copy);
  if (home_of(from, bytes) == Home::kPageable && home_of(to, bytes) != Home::kPageable) {
    // From pageable memory the copy is staged before the call returns.
    const auto bytes_of = static_cast<const unsigned char*>(from);
    return enqueue(stream, [to, staged = std::vector<unsigned char>(bytes_of, bytes_of + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
      return cudaSuccess;
    });
  }
  const cudaError_t error = enqueue(stream, copy);
  // To pageable memory the call returns when the copy is done.
  return error || home_of(to, bytes) != Home::kPageable ? error : run_stream(stream);
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  const std::lock_guard lock(context().mutex);
  if (capture_forbids()) return note(cudaErrorStreamCaptureUnsupported);
  const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return error ? error : run_stream(nullptr);
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  if (home_of(memory, bytes) == Home::kPageable) return note(cudaErrorInvalidValue);
  return enqueue(stream, [=] {
    std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}

cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}
