// core/encode.h on the pool.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria::cpu {

// x [rows][cols] to `out`, on up to `threads` threads. Throws CRIA_ERROR_NUMBERS for the first weight that does not
// fit.
void encode_rows(cria_type type, std::size_t rows, std::size_t cols, const float* x, std::uint8_t* out,
                 unsigned threads);

}  // namespace cria::cpu
