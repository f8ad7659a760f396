// How long a prefix of keys and values that belong to no token may be.
#pragma once

#include <cstddef>

namespace cria {

// The scores stand on the stack. Those that were published have 10 keys.
constexpr std::size_t kMaxPrefix = 256;

}  // namespace cria
