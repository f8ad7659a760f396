#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#include <windows.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "file.h"

namespace cria {
namespace {

HANDLE handle_of(int descriptor) { return reinterpret_cast<HANDLE>(::_get_osfhandle(descriptor)); }

std::wstring utf16(const std::string& utf8) {
  const int bytes = static_cast<int>(utf8.size());
  std::wstring wide(utf8.size(), L'\0');  // never has more units than UTF-8 has bytes
  wide.resize(static_cast<std::size_t>(
      ::MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, utf8.data(), bytes, wide.data(), bytes)));
  return wide;
}

}  // namespace

Mapping::Mapping(int descriptor, std::size_t bytes) : data_(nullptr), bytes_(bytes) {
  if (bytes == 0) return;
  // The view keeps the mapping.
  const HANDLE mapping = ::CreateFileMappingW(handle_of(descriptor), nullptr, PAGE_READONLY, 0, 0, nullptr);
  if (mapping != nullptr) {
    data_ = static_cast<const std::uint8_t*>(::MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, bytes));
    ::CloseHandle(mapping);
  }
  if (data_ == nullptr) {
    throw Error(CRIA_ERROR_MEMORY, "the system cannot map " + std::to_string(bytes) + " bytes of a file");
  }
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::UnmapViewOfFile(data_);
}

// The pages come in as they are first used. A file that is mapped cannot be cut here.
bool Mapping::populate(std::size_t, std::size_t) const { return true; }

File::File(const char* path)
    : path_(path), descriptor_(::_wopen(utf16(path_).c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT)) {
  if (descriptor_ < 0) throw Error(CRIA_ERROR_FILE, path_ + ": cannot be opened: " + std::strerror(errno));
  struct _stat64 status;
  if (::_fstat64(descriptor_, &status) != 0 || (status.st_mode & _S_IFMT) != _S_IFREG) {
    ::_close(descriptor_);
    throw Error(CRIA_ERROR_FILE, path_ + ": must be a regular file");
  }
  bytes_ = static_cast<std::size_t>(status.st_size);
}

File::~File() { ::_close(descriptor_); }

void File::read(std::uint64_t offset, void* out, std::size_t bytes) const {
  constexpr std::size_t kMostBytes = 1 << 30;  // of one call, which counts in 32 bits
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    OVERLAPPED at{};
    at.Offset = static_cast<DWORD>(offset);
    at.OffsetHigh = static_cast<DWORD>(offset >> 32);
    DWORD got = 0;
    const auto wanted = static_cast<DWORD>(std::min(bytes, kMostBytes));
    const DWORD error = ::ReadFile(handle_of(descriptor_), to, wanted, &got, &at) ? ERROR_SUCCESS : ::GetLastError();
    if (error != ERROR_SUCCESS && error != ERROR_HANDLE_EOF) {
      throw Error(CRIA_ERROR_FILE, path_ + ": cannot be read: Windows error " + std::to_string(error));
    }
    if (got == 0)
      throw Error(CRIA_ERROR_FILE, path_ + ": ends at byte " + std::to_string(offset) + ", inside a tensor");
    to += got;
    offset += got;
    bytes -= got;
  }
}

std::shared_ptr<const Mapping> File::map() const {
  const std::lock_guard guard(lock_);
  if (mapping_ == nullptr) mapping_ = std::make_shared<const Mapping>(descriptor_, bytes_);
  return mapping_;
}

}  // namespace cria
