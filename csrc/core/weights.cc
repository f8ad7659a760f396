#include "weights.h"

#include <cstring>
#include <limits>

#include "error.h"
#include "half.h"

namespace cria {

const WeightFormat& weight_format(cria_type type) {
  static constexpr WeightFormat kF32 = {"f32", 1, 4};
  static constexpr WeightFormat kF16 = {"f16", 1, 2};
  static constexpr WeightFormat kBf16 = {"bf16", 1, 2};
  static constexpr WeightFormat kQ4_0 = {"q4_0", kBlock, sizeof(Q4_0)};
  static constexpr WeightFormat kQ8_0 = {"q8_0", kBlock, sizeof(Q8_0)};
  switch (type) {
    case CRIA_TYPE_F32:
      return kF32;
    case CRIA_TYPE_F16:
      return kF16;
    case CRIA_TYPE_BF16:
      return kBf16;
    case CRIA_TYPE_Q4_0:
      return kQ4_0;
    case CRIA_TYPE_Q8_0:
      return kQ8_0;
  }
  throw Error(CRIA_ERROR_ARGUMENT,
              "type: must be 0 (f32), 1 (f16), 2 (q4_0), 8 (q8_0) or 30 (bf16), not " + std::to_string(type));
}

std::size_t row_bytes(cria_type type, std::size_t cols) {
  const WeightFormat& format = weight_format(type);
  require(cols % format.block == 0, "cols", "a multiple of " + std::to_string(format.block) + " in " + format.name,
          cols);
  const std::size_t blocks = cols / format.block;
  const std::size_t most = std::numeric_limits<std::size_t>::max() / format.block_bytes;
  require(blocks <= most, "cols", "at most " + std::to_string(most * format.block) + " in " + format.name, cols);
  return blocks * format.block_bytes;
}

void widen(cria_type type, std::size_t count, const std::uint8_t* source, float* out) {
  if (type == CRIA_TYPE_F32) {
    std::memcpy(out, source, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, source + i * sizeof(bits), sizeof(bits));
    out[i] = type == CRIA_TYPE_F16 ? half_to_float(bits) : bf16_to_float(bits);
  }
}

}  // namespace cria
