// Blocks of the cache between the order of cria_cache_read, K [head_dim][16], and the device's, K [16][head_dim].
//
// V is the same in both, and so are the scales of q8_0, in K and V.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/cache.h"

namespace cria::cuda {

// K of one head's block, turned to the device's order or back. `out` must not be `in`.
void keys_to_device(cria_type type, std::size_t head_dim, const std::uint8_t* in, std::uint8_t* out);
void keys_from_device(cria_type type, std::size_t head_dim, const std::uint8_t* in, std::uint8_t* out);

}  // namespace cria::cuda
