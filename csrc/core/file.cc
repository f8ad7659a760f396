#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace cria {

// Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
File::File(const char* path) : path_(path), descriptor_(::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (descriptor_ < 0) throw Error(CRIA_ERROR_FILE, path_ + ": cannot be opened: " + std::strerror(errno));
  struct stat status;
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(CRIA_ERROR_FILE, path_ + ": must be a regular file");
  }
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

}  // namespace cria
