// A file that weights are read from.
//
// It is read, not mapped: a file that is cut while it is in use is then an error, not a SIGBUS, and its pages never
// count as this process's memory. Out of the page cache a read costs one copy, through a buffer that stays in L2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace cria {

class File {
 public:
  // Throws CRIA_ERROR_FILE.
  explicit File(const char* path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Fills `out` with the `bytes` at `offset`; throws CRIA_ERROR_FILE where the file does not have them.
  void read(std::uint64_t offset, void* out, std::size_t bytes) const;

 private:
  std::string path_;
  int descriptor_;
};

}  // namespace cria
