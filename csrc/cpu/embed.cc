#include "embed.h"

#include "../core/decode.h"

namespace cria::cpu {

void embed_decoded(const Panels& table, std::size_t row, float* out) {
  const std::size_t block = weight_format(table.type).block;
  std::uint8_t bytes[sizeof(Q6_K)];  // the largest
  for (std::size_t k = 0; k < table.cols; k += block) {
    unpack_block(table, row, k / block, bytes);
    decode_row(table.type, block, bytes, out + k);
  }
}

}  // namespace cria::cpu
