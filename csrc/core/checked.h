// Sizes that come from a file or a caller are multiplied here, before anything is allocated or indexed.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "error.h"

namespace cria {

// The product, or CRIA_ERROR_MEMORY where it does not fit a size_t: nobody has that much memory.
inline std::size_t checked_product(std::initializer_list<std::size_t> factors) {
  std::size_t product = 1;
  for (const std::size_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) {
      throw Error(CRIA_ERROR_MEMORY, "the size of an array exceeds the address space");
    }
  }
  return product;
}

}  // namespace cria
