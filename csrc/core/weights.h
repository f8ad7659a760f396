// The weight formats that files hold and kernels multiply by: sizes and byte layouts of GGML's blocks (ggml-common.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria {

// Elements of one row that share a scale in the quantised formats.
constexpr std::size_t kBlock = 32;

// One block of 32 weights: w[j] = scale * (low nibble j - 8), w[j + 16] = scale * (high nibble j - 8).
struct Q4_0 {
  std::uint8_t scale[2];  // binary16, little-endian
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q4_0) == 18);

// One block of 32 weights: w[j] = scale * quants[j].
struct Q8_0 {
  std::uint8_t scale[2];  // binary16, little-endian
  std::int8_t quants[32];
};
static_assert(sizeof(Q8_0) == 34);

struct WeightFormat {
  const char* name;
  std::size_t block;        // weights that a block holds; a row is a whole number of blocks
  std::size_t block_bytes;  // bytes of a block in a file
};

// Throws CRIA_ERROR_ARGUMENT for an unknown type.
const WeightFormat& weight_format(cria_type type);

static inline bool is_quantised(cria_type type) { return type == CRIA_TYPE_Q4_0 || type == CRIA_TYPE_Q8_0; }

// Bytes that one row of `cols` weights takes in a file. Throws where `cols` is not a whole number of blocks.
std::size_t row_bytes(cria_type type, std::size_t cols);

// `count` elements of f32, f16 or bf16 as f32, which is exact.
void widen(cria_type type, std::size_t count, const std::uint8_t* source, float* out);

}  // namespace cria
