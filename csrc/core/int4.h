// Matrices of 4-bit weights as GPTQ (Frantar et al. 2022) and AWQ (Lin et al. 2023) store them, to rows of blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"
#include "tensor.h"

namespace cria {

// Throws CRIA_ERROR_ARGUMENT unless cria.h says yes to a matrix for that tensor.
void check_int4(const cria_int4& matrix, const Tensor& into);

// Outputs [first, first + count) as rows of `cols` weights of q4_z or q4_0. Throws CRIA_ERROR_ARGUMENT where q4_0
// cannot say a zero.
void int4_rows(const cria_int4& matrix, cria_type type, std::size_t cols, std::size_t first, std::size_t count,
               std::uint8_t* out);

}  // namespace cria
