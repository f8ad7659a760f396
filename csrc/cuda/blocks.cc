#include "blocks.h"

#include <cstring>

#include "../../cuda/kv.h"

namespace cria::cuda {
namespace {

std::size_t element_bytes(cria_type type) { return type == CRIA_TYPE_F32 ? 4 : type == CRIA_TYPE_F16 ? 2 : 1; }

// out[c][r] = in[r][c], and what stands behind them as it is.
void transpose(cria_type type, std::size_t head_dim, std::size_t rows, std::size_t cols, const std::uint8_t* in,
               std::uint8_t* out) {
  const std::size_t size = element_bytes(type), elements = rows * cols * size;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) std::memcpy(out + (c * rows + r) * size, in + (r * cols + c) * size, size);
  }
  std::memcpy(out + elements, in + elements, kv_side_bytes(type, head_dim) - elements);
}

}  // namespace

void keys_to_device(cria_type type, std::size_t head_dim, const std::uint8_t* in, std::uint8_t* out) {
  transpose(type, head_dim, head_dim, kKvBlock, in, out);
}

void keys_from_device(cria_type type, std::size_t head_dim, const std::uint8_t* in, std::uint8_t* out) {
  transpose(type, head_dim, kKvBlock, head_dim, in, out);
}

}  // namespace cria::cuda
