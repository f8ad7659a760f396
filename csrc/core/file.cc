#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // since Linux 5.14
#endif

namespace cria {

Mapping::Mapping(int descriptor, std::size_t bytes) : data_(nullptr), bytes_(bytes) {
  if (bytes == 0) return;
  void* mapped = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (mapped == MAP_FAILED) {
    throw Error(CRIA_ERROR_MEMORY, "the system cannot map " + std::to_string(bytes) + " bytes of a file");
  }
  data_ = static_cast<const std::uint8_t*>(mapped);
  // What is not in the page cache yet is then read 2 MiB at a time, into pages of that size where the file system has
  // them.
#ifdef MADV_HUGEPAGE  // of Linux
  ::madvise(mapped, bytes, MADV_HUGEPAGE);
#endif
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(const_cast<std::uint8_t*>(data_), bytes_);
}

bool Mapping::populate(std::size_t offset, std::size_t bytes) const {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)), before = offset % page;
  void* begin = const_cast<std::uint8_t*>(data_ + offset - before);
  // EFAULT where touching the pages would be a SIGBUS. Older systems know no such advice (EINVAL): there the pages come
  // in as they are first used.
  return ::madvise(begin, before + bytes, MADV_POPULATE_READ) == 0 || (errno != EFAULT && errno != EIO);
}

// Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
File::File(const char* path) : path_(path), descriptor_(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) throw Error(CRIA_ERROR_FILE, path_ + ": cannot be opened: " + std::strerror(errno));
  struct stat status;
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(CRIA_ERROR_FILE, path_ + ": must be a regular file");
  }
  bytes_ = static_cast<std::size_t>(status.st_size);
}

File::~File() { ::close(descriptor_); }

void File::read(std::uint64_t offset, void* out, std::size_t bytes) const {
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(CRIA_ERROR_FILE, path_ + ": cannot be read: " + std::strerror(errno));
    if (got == 0)
      throw Error(CRIA_ERROR_FILE, path_ + ": ends at byte " + std::to_string(offset) + ", inside a tensor");
    to += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::size_t>(got);
  }
}

std::shared_ptr<const Mapping> File::map() const {
  const std::lock_guard guard(lock_);
  if (mapping_ == nullptr) mapping_ = std::make_shared<const Mapping>(descriptor_, bytes_);
  return mapping_;
}

}  // namespace cria
