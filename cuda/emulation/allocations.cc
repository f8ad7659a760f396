#include "allocations.h"

#include <map>
#include <new>

#include "context.h"
#include "memory.h"
#include "runtime.h"
#include "streams.h"

namespace cria::cuda::emulation {

namespace {

constexpr std::size_t kAlignment = 256;  // cudaMalloc's promise

struct Allocations {
  std::map<const unsigned char*, GuardedMemory> by_address;
  std::size_t bytes = 0;
  const GuardedMemory* last_found = nullptr;  // most look-ups are in the allocation of the one before

  bool holds(const void* memory, std::size_t size) {
    if (last_found && last_found->holds(memory, size)) return true;
    auto after = by_address.upper_bound(static_cast<const unsigned char*>(memory));
    if (after == by_address.begin()) return false;
    const GuardedMemory& candidate = std::prev(after)->second;
    if (!candidate.holds(memory, size)) return false;
    last_found = &candidate;
    return true;
  }
  void forget() {
    by_address.clear();
    bytes = 0;
    last_found = nullptr;
  }
};
Allocations device, pinned;

}  // namespace

Home home_of(const void* memory, std::size_t bytes) {
  const std::lock_guard lock(context().mutex);
  if (device.holds(memory, bytes)) return Home::kDevice;
  return pinned.holds(memory, bytes) ? Home::kPinned : Home::kPageable;
}

void forget_allocations() {
  device.forget();
  pinned.forget();
}

static cudaError_t allocate(Allocations& where, void** memory, std::size_t bytes) {
  const std::lock_guard lock(context().mutex);
  *memory = nullptr;
  if (broken()) return broken();
  if (capture_forbids()) return note(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (bytes > kDeviceMemory - where.bytes) return note(cudaErrorMemoryAllocation);
  try {
    GuardedMemory taken(bytes, kAlignment);
    *memory = taken.data();
    where.by_address.emplace(taken.data(), std::move(taken));
  } catch (const std::bad_alloc&) {
    return note(cudaErrorMemoryAllocation);
  }
  where.bytes += bytes;
  return cudaSuccess;
}

static cudaError_t release(Allocations& where, void* memory) {
  const std::lock_guard lock(context().mutex);
  if (capture_forbids()) return note(cudaErrorStreamCaptureUnsupported);
  if (!memory) return broken();
  run_all_streams();
  const auto found = where.by_address.find(static_cast<unsigned char*>(memory));
  if (found == where.by_address.end()) return note(cudaErrorInvalidValue);
  const bool overrun = found->second.overrun();
  where.bytes -= found->second.size();
  where.last_found = nullptr;
  where.by_address.erase(found);
  if (overrun && !broken()) break_context(cudaErrorIllegalAddress, "bytes after the end of an allocation were written");
  return broken();
}

}  // namespace cria::cuda::emulation

using namespace cria::cuda::emulation;

cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return allocate(device, memory, bytes); }
cudaError_t cudaFree(void* memory) { return release(device, memory); }
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return allocate(pinned, memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return release(pinned, memory); }

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard lock(context().mutex);
  *free = kDeviceMemory - device.bytes;
  *total = kDeviceMemory;
  return broken();
}
