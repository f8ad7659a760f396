// Memory that ends where it ends: the byte after it belongs to an unmapped page. All of it starts as 0xff, which is NaN
// in every floating-point type.
//
//     | guard page | ... 0xff ... | the bytes asked for, rounded up to `alignment` | guard page |
//
// The rounding leaves up to alignment - 1 bytes that do not fault; they are checked for writes where it says so.
#pragma once

#include <cstddef>
#include <cstdint>

#include "site.h"

namespace cria::cuda::emulation {

constexpr int kPoison = 0xff;

class GuardedMemory {
 public:
  GuardedMemory() = default;
  /// Throws std::bad_alloc.
  GuardedMemory(std::size_t bytes, std::size_t alignment);
  ~GuardedMemory();
  GuardedMemory(GuardedMemory&& other) noexcept;
  GuardedMemory& operator=(GuardedMemory&& other) noexcept;

  unsigned char* data() const { return data_; }
  std::size_t size() const { return bytes_; }
  bool holds(const void* at, std::size_t bytes) const;
  void poison();
  /// Whether a byte between the end and the guard page was written.
  bool overrun() const;

 private:
  char* mapping_ = nullptr;
  std::size_t mapped_ = 0;
  unsigned char* data_ = nullptr;
  std::size_t bytes_ = 0, slack_ = 0;
};

/// A block's shared memory, as its lanes see it and as the async proxy (bulk copies, wgmma) does: what lanes write is
/// in the second view only after fence_proxy_async.
class SharedMemory {
 public:
  /// For a new block: all poison.
  void reset(std::size_t bytes);
  unsigned char* data() const { return lanes_.data(); }
  std::size_t size() const { return lanes_.size(); }
  bool holds(const void* at, std::size_t bytes) const { return lanes_.holds(at, bytes); }
  bool overrun() const { return lanes_.overrun(); }
  unsigned char* async_view();
  void publish();

 private:
  GuardedMemory lanes_, async_;
  bool async_used_ = false;
};

/// The kernel's shared memory as its Layout.
void* shared_bytes(std::size_t bytes, std::size_t alignment, Site site);
template <class Layout>
Layout& shared_memory(Site site = Site::here()) {
  return *static_cast<Layout*>(shared_bytes(sizeof(Layout), alignof(Layout), site));
}

}  // namespace cria::cuda::emulation
