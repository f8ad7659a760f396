// A file in memory, which has a path for as long as it is held.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string>

#include "check.h"

namespace cria::fuzz {

class MemoryFile {
 public:
  explicit MemoryFile(std::span<const std::uint8_t> bytes) : descriptor_(::memfd_create("cria-fuzz", MFD_CLOEXEC)) {
    expect(descriptor_ >= 0, "no file can be made in memory");
    const auto written = ::pwrite(descriptor_, bytes.data(), bytes.size(), 0);
    expect(written == static_cast<ssize_t>(bytes.size()), "a file in memory cannot be written");
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  void truncate(std::size_t bytes) const {
    expect(::ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0, "a file in memory cannot be cut");
  }

 private:
  int descriptor_;
};

}  // namespace cria::fuzz
