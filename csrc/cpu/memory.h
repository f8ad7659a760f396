// Large zeroed memory straight from the system: pages are taken as they are first written and given back at once.
//
// Not from malloc: hosts replace it (Electron's traps large aligned allocations), and a cache's arena wants address
// space before it wants pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace cria::cpu {

class Memory {
 public:
  Memory() = default;
  // Throws CRIA_ERROR_MEMORY. Starts on a page, so on a cache line.
  explicit Memory(std::size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  std::uint8_t* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace cria::cpu
