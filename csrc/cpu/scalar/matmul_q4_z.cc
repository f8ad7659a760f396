#include "matmul_min.h"

namespace cria::cpu::scalar {
namespace {

struct Q4_Z {
  using Superblock = Q4_1Superblock;

  static std::int32_t dot(const Superblock& superblock, std::size_t, std::size_t lane, const std::int8_t* q) {
    return nibble_dot(superblock.nibbles, lane, q);
  }

  // Scale and zero have 11 bits each, so that their product is exact.
  static Line line(const Superblock& superblock, std::size_t, std::size_t lane) {
    const std::uint32_t lead = word_of(superblock.lead, lane);
    const float step = half_to_float(static_cast<std::uint16_t>(lead));
    const float zero = half_to_float(static_cast<std::uint16_t>(lead >> 16));
    return {step, step * (zero / static_cast<float>(-kSeed))};
  }
};

}  // namespace

void matmul_q4_z(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_min<Q4_Z>(op, begin, end); }

}  // namespace cria::cpu::scalar
