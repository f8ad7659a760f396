#include "memory.h"

#include <sys/mman.h>

#include <string>

#include "../core/error.h"
#include "fence.h"

namespace cria::cpu {

Memory::Memory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(CRIA_ERROR_MEMORY, "the system has no " + std::to_string(bytes) + " bytes of memory to give");
  }
  data_ = static_cast<std::uint8_t*>(mapped);
  // Pages of 2 MiB where the system grants them: a matrix is streamed whole, and packing takes 512 times fewer faults.
#ifdef MADV_HUGEPAGE  // of Linux
  ::madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  fence(data_, bytes);
}

Memory::~Memory() {
  if (data_ == nullptr) return;
  unfence(data_, bytes_);
  ::munmap(data_, bytes_);
}

}  // namespace cria::cpu
