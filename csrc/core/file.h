// A file that weights are read from, or that is mapped where its bytes are the kernels' operands as they stand.
//
// Weights to be packed are read: a file that is cut while it is in use is then an error, not a SIGBUS, and its pages
// never count as this process's memory. Out of the page cache a read costs one copy, through a buffer that stays in L2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace cria {

// A whole file in memory: shared with the page cache, and read-only.
//
// Shared, not private: nothing is ever written, and it is then the same pages in every process that runs the model.
// The one danger is that of every mapping: where the file is cut or its disk fails while it is in use, a read of the
// pages that are gone ends the process with SIGBUS. A file that is replaced by renaming another over it does no harm.
//
// Mapped in pages of 2 MiB it is read as fast as anonymous memory in such pages (0.996 of it), in pages of 4 KiB at
// 0.98: less than a copy into anonymous memory would ever win back, which costs what packing costs.
class Mapping {
 public:
  // Throws CRIA_ERROR_MEMORY where the system has no address space for it.
  Mapping(int descriptor, std::size_t bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  const std::uint8_t* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  // Brings the pages of [offset, offset + bytes) in, from the disk if need be, so that their first use waits for
  // nothing. False where the file no longer has them, or the disk cannot give them.
  bool populate(std::size_t offset, std::size_t bytes) const;

 private:
  const std::uint8_t* data_;
  std::size_t bytes_;
};

class File {
 public:
  // Throws CRIA_ERROR_FILE.
  explicit File(const char* path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  const std::string& path() const { return path_; }
  // Its size when it was opened.
  std::size_t bytes() const { return bytes_; }

  // Fills `out` with the `bytes` at `offset`; throws CRIA_ERROR_FILE where the file does not have them.
  void read(std::uint64_t offset, void* out, std::size_t bytes) const;

  // The file as it was when it was opened, mapped at the first call: later ones share it. It outlives the File.
  std::shared_ptr<const Mapping> map() const;

 private:
  std::string path_;
  int descriptor_;
  std::size_t bytes_;
  mutable std::mutex lock_;  // guards mapping_
  mutable std::shared_ptr<const Mapping> mapping_;
};

}  // namespace cria
