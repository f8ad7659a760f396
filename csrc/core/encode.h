// Float32 weights to the bytes of a file's formats, each weight as near as its block's few numbers let it be.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria {

// `cols` weights of one row, a whole number of the type's blocks, to `out`, where row_bytes(type, cols) are written:
// the same for the same weights, whatever the thread. Every weight fits (require_fit).
void encode_row(cria_type type, std::size_t cols, const float* x, std::uint8_t* out);

// Throws CRIA_ERROR_NUMBERS, naming row `row` and the column, where a weight is NaN, infinite, or larger than `type`
// takes: 65504, the largest f16, of all types but f32 and bf16, for an f16 scales their blocks.
void require_fit(cria_type type, std::size_t row, std::size_t cols, const float* x);

}  // namespace cria
