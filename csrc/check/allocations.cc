// Takes the place of the C library's functions in this program and in all that it loads. glibc alone: its own
// functions go by other names too.
#include "allocations.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace cria::check {
namespace {

std::atomic<long> requests{0}, alive{0}, from{LONG_MAX}, to{LONG_MAX};

bool refused() {
  const long request = ++requests;
  return request >= from && request <= to;
}

// What was granted, counted.
void* taken(void* memory) {
  if (memory != nullptr) ++alive;
  return memory;
}

void* no_memory() {
  errno = ENOMEM;
  return nullptr;
}

}  // namespace

void refuse(long nth, Refuse how) {
  requests = 0;
  to = how == Refuse::kOnce ? nth : LONG_MAX;
  from = nth;
}

long grant() {
  from = LONG_MAX;
  return requests;
}

long living() { return alive; }

}  // namespace cria::check

using namespace cria::check;

extern "C" {

void* malloc(size_t size) { return refused() ? no_memory() : taken(__libc_malloc(size)); }

void* calloc(size_t count, size_t size) { return refused() ? no_memory() : taken(__libc_calloc(count, size)); }

void* realloc(void* old, size_t size) {
  if (refused()) return no_memory();
  void* const moved = __libc_realloc(old, size);
  if (old == nullptr) taken(moved);
  return moved;
}

void* memalign(size_t alignment, size_t size) {
  return refused() ? no_memory() : taken(__libc_memalign(alignment, size));
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** memory, size_t alignment, size_t size) {
  void* const made = memalign(alignment, size);
  if (made == nullptr) return ENOMEM;
  *memory = made;
  return 0;
}

void free(void* memory) {
  if (memory != nullptr) --alive;
  __libc_free(memory);
}

void* mmap(void* address, size_t length, int protection, int flags, int descriptor, off_t offset) {
  if (refused()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* const mapped =
      reinterpret_cast<void*>(syscall(SYS_mmap, address, length, protection, flags, descriptor, offset));
  if (mapped != MAP_FAILED) ++alive;
  return mapped;
}

int munmap(void* address, size_t length) {
  const long status = syscall(SYS_munmap, address, length);
  if (status == 0) --alive;
  return static_cast<int>(status);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  if (refused()) return EAGAIN;
  static const auto create = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, run, argument);
}
}
