// Under AddressSanitizer, what is left of the last page behind memory straight from the system is fenced off, as what
// lies behind malloc's is. Elsewhere this is nothing.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#define CRIA_HAS_FEATURE(feature) __has_feature(feature)
#else
#define CRIA_HAS_FEATURE(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || CRIA_HAS_FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define CRIA_FENCED 1
#else
#define CRIA_FENCED 0
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace cria::cpu {

constexpr bool kFenced = CRIA_FENCED;

// Of the last page of `bytes` bytes that begin on one.
static inline std::size_t rest_of_page(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (page - bytes % page) % page;
}

static inline void fence(const std::uint8_t* data, std::size_t bytes) {
  ASAN_POISON_MEMORY_REGION(data + bytes, rest_of_page(bytes));
}

// Before the memory is given back: what the system puts there next may be used.
static inline void unfence(const std::uint8_t* data, std::size_t bytes) {
  ASAN_UNPOISON_MEMORY_REGION(data + bytes, rest_of_page(bytes));
}

}  // namespace cria::cpu
