// Weights as they stand in a file to float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria {

// `cols` weights of one row, a whole number of the type's blocks: each the float32 nearest to what its bits say.
void decode_row(cria_type type, std::size_t cols, const std::uint8_t* source, float* out);

}  // namespace cria
