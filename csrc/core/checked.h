// Sizes that come from a file or a caller are multiplied here, and indices compared with them, before anything is
// allocated or indexed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

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

// A caller's array; null only where it is empty.
inline std::span<const std::int32_t> checked_array(const std::int32_t* data, std::size_t count, const char* name) {
  if (count > 0) require_pointer(data, name);
  return {data, count};
}

// "NAME[INDEX]: must be from 0 to LIMIT - 1, not VALUE" for the first value outside.
inline void check_range(std::span<const std::int32_t> values, std::size_t limit, const char* name) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] >= 0 && static_cast<std::size_t>(values[i]) < limit) continue;
    throw Error(CRIA_ERROR_ARGUMENT, std::string(name) + "[" + std::to_string(i) + "]: must be from 0 to " +
                                         std::to_string(limit) + " - 1, not " + std::to_string(values[i]));
  }
}

}  // namespace cria
