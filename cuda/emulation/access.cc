#include "access.h"

#include <cstdint>

#include "allocations.h"
#include "block.h"
#include "fault.h"

namespace cria::cuda::emulation {

void check_aligned(const void* at, std::size_t alignment, const char* what, Site site) {
  if (reinterpret_cast<std::uintptr_t>(at) % alignment != 0) {
    fail(cudaErrorMisalignedAddress, site, "%s, %p, is not %zu-byte aligned", what, at, alignment);
  }
}

void check_global(const void* at, std::size_t bytes, std::size_t alignment, const char* what, Site site) {
  if (home_of(at, bytes) == Home::kPageable) {
    fail(cudaErrorIllegalAddress, site, "%s, %zu bytes at %p, is not in one allocation of the device", what, bytes, at);
  }
  check_aligned(at, alignment, what, site);
}

std::size_t check_shared(const void* at, std::size_t bytes, std::size_t alignment, const char* what, Site site) {
  const SharedMemory& shared = block().shared;
  if (!shared.holds(at, bytes)) {
    fail(cudaErrorIllegalAddress, site, "%s, %zu bytes at %p, is not in shared memory, [%p, %p)", what, bytes, at,
         static_cast<void*>(shared.data()), static_cast<void*>(shared.data() + shared.size()));
  }
  check_aligned(at, alignment, what, site);
  return static_cast<const unsigned char*>(at) - shared.data();
}

}  // namespace cria::cuda::emulation
