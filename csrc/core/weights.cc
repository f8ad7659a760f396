#include "weights.h"

#include <limits>

#include "error.h"

namespace cria {

const WeightFormat& weight_format(cria_type type) {
  static constexpr WeightFormat kF32 = {"f32", 1, 4};
  static constexpr WeightFormat kF16 = {"f16", 1, 2};
  static constexpr WeightFormat kBf16 = {"bf16", 1, 2};
  static constexpr WeightFormat kQ4_0 = {"q4_0", kBlock, sizeof(Q4_0)};
  static constexpr WeightFormat kQ4_1 = {"q4_1", kBlock, sizeof(Q4_1)};
  static constexpr WeightFormat kQ5_0 = {"q5_0", kBlock, sizeof(Q5_0)};
  static constexpr WeightFormat kQ5_1 = {"q5_1", kBlock, sizeof(Q5_1)};
  static constexpr WeightFormat kQ8_0 = {"q8_0", kBlock, sizeof(Q8_0)};
  static constexpr WeightFormat kQ2_K = {"q2_K", kBlockK, sizeof(Q2_K)};
  static constexpr WeightFormat kQ3_K = {"q3_K", kBlockK, sizeof(Q3_K)};
  static constexpr WeightFormat kQ4_K = {"q4_K", kBlockK, sizeof(Q4_K)};
  static constexpr WeightFormat kQ5_K = {"q5_K", kBlockK, sizeof(Q5_K)};
  static constexpr WeightFormat kQ6_K = {"q6_K", kBlockK, sizeof(Q6_K)};
  static constexpr WeightFormat kIQ4_NL = {"iq4_nl", kBlock, sizeof(IQ4_NL)};
  static constexpr WeightFormat kQ4_Z = {"q4_z", kBlock, sizeof(Q4_Z)};
  switch (type) {
    case CRIA_TYPE_F32:
      return kF32;
    case CRIA_TYPE_F16:
      return kF16;
    case CRIA_TYPE_BF16:
      return kBf16;
    case CRIA_TYPE_Q4_0:
      return kQ4_0;
    case CRIA_TYPE_Q4_1:
      return kQ4_1;
    case CRIA_TYPE_Q5_0:
      return kQ5_0;
    case CRIA_TYPE_Q5_1:
      return kQ5_1;
    case CRIA_TYPE_Q8_0:
      return kQ8_0;
    case CRIA_TYPE_Q2_K:
      return kQ2_K;
    case CRIA_TYPE_Q3_K:
      return kQ3_K;
    case CRIA_TYPE_Q4_K:
      return kQ4_K;
    case CRIA_TYPE_Q5_K:
      return kQ5_K;
    case CRIA_TYPE_Q6_K:
      return kQ6_K;
    case CRIA_TYPE_IQ4_NL:
      return kIQ4_NL;
    case CRIA_TYPE_Q4_Z:
      return kQ4_Z;
  }
  throw Error(CRIA_ERROR_ARGUMENT, "type: must be a cria_type, not " + std::to_string(type));
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

}  // namespace cria
