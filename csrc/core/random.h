// Random weights in the formats of files: something to measure speed with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria {

// Fills `out` with one row of `cols` weights of about that standard deviation, the same for the same seed and row.
void random_row(cria_type type, std::size_t cols, std::uint64_t seed, std::size_t row, float deviation,
                std::uint8_t* out);

}  // namespace cria
