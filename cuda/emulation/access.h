// Checks of the addresses that wrappers are given. Plain dereferences are checked by the compiler (alignment) and by
// the guard pages (bounds).
#pragma once

#include <cstddef>

#include "site.h"

namespace cria::cuda::emulation {

void check_aligned(const void* at, std::size_t alignment, const char* what, Site site);
/// Aligned, and [at, at + bytes) in one allocation that the device can reach.
void check_global(const void* at, std::size_t bytes, std::size_t alignment, const char* what, Site site);
/// Aligned, and [at, at + bytes) inside the block's shared memory. Returns its offset there.
std::size_t check_shared(const void* at, std::size_t bytes, std::size_t alignment, const char* what, Site site);

}  // namespace cria::cuda::emulation
