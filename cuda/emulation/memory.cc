#include "memory.h"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

#include "block.h"
#include "fault.h"

namespace cria::cuda::emulation {

constexpr std::size_t kPage = 4096;

GuardedMemory::GuardedMemory(std::size_t bytes, std::size_t alignment) : bytes_(bytes) {
  const std::size_t room = (bytes + alignment - 1) / alignment * alignment;
  const std::size_t pages = (room + kPage - 1) / kPage * kPage;
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  mapped_ = pages + 2 * kPage;
  void* mapping = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw std::bad_alloc();
  mapping_ = static_cast<char*>(mapping);
  if (mprotect(mapping_ + kPage, pages, PROT_READ | PROT_WRITE) != 0) {
    munmap(mapping, mapped_);
    throw std::bad_alloc();
  }
  data_ = reinterpret_cast<unsigned char*>(mapping_) + kPage + pages - room;
  slack_ = room - bytes;
  poison();
}

GuardedMemory::~GuardedMemory() {
  if (mapping_) munmap(mapping_, mapped_);
}

GuardedMemory::GuardedMemory(GuardedMemory&& other) noexcept { *this = std::move(other); }

GuardedMemory& GuardedMemory::operator=(GuardedMemory&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(slack_, other.slack_);
  return *this;
}

bool GuardedMemory::holds(const void* at, std::size_t bytes) const {
  const auto offset = reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(data_);
  return offset <= bytes_ && bytes <= bytes_ - offset;
}

void GuardedMemory::poison() { std::memset(data_, kPoison, bytes_ + slack_); }

bool GuardedMemory::overrun() const {
  for (std::size_t i = 0; i < slack_; ++i) {
    if (data_[bytes_ + i] != kPoison) return true;
  }
  return false;
}

void SharedMemory::reset(std::size_t bytes) {
  // 128: see shared_memory() in cuda.cuh.
  if (bytes != lanes_.size()) {
    lanes_ = GuardedMemory(bytes, 128);
    async_ = GuardedMemory();
  } else if (bytes != 0) {
    lanes_.poison();
  }
  async_used_ = false;
}

unsigned char* SharedMemory::async_view() {
  if (!async_used_) {
    if (async_.size() != lanes_.size()) {
      async_ = GuardedMemory(lanes_.size(), 128);
    } else {
      async_.poison();
    }
    async_used_ = true;
  }
  return async_.data();
}

void SharedMemory::publish() {
  if (size() != 0) std::memcpy(async_view(), lanes_.data(), lanes_.size());
}

void* shared_bytes(std::size_t bytes, std::size_t alignment, Site site) {
  const SharedMemory& shared = block().shared;
  if (bytes > shared.size()) {
    fail(cudaErrorIllegalAddress, site, "the kernel's shared memory is %zu bytes, its launch gave %zu", bytes,
         shared.size());
  }
  if (alignment > 128) fail(cudaErrorMisalignedAddress, site, "shared memory is 128-byte aligned, not %zu", alignment);
  return shared.data();
}

}  // namespace cria::cuda::emulation
