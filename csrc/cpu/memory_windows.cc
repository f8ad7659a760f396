#include <windows.h>

#include <string>

#include "../core/error.h"
#include "memory.h"

namespace cria::cpu {

Memory::Memory(std::size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  data_ = static_cast<std::uint8_t*>(::VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE));
  if (data_ == nullptr) {
    throw Error(CRIA_ERROR_MEMORY, "the system has no " + std::to_string(bytes) + " bytes of memory to give");
  }
}

Memory::~Memory() {
  if (data_ != nullptr) ::VirtualFree(data_, 0, MEM_RELEASE);
}

}  // namespace cria::cpu
