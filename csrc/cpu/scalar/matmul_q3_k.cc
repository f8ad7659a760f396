#include "matmul_groups.h"

namespace cria::cpu::scalar {
namespace {

struct Q3_K {
  using Superblock = Q3KSuperblock;
  static constexpr std::int32_t kZero = 4;
  static constexpr bool kMinimum = false;

  static std::int32_t quant(const Superblock& superblock, std::size_t b, std::size_t lane, std::size_t k) {
    const std::int32_t pair = byte_of(superblock.pairs[b / 4], lane, k) >> b % 4 * 2 & 3;
    return pair | (byte_of(superblock.thirds, lane, k) >> b & 1) << 2;
  }
  static std::int32_t scale(const Superblock& superblock, std::size_t g, std::size_t lane) {
    const std::int32_t low = superblock.scales[g % 8 / 4][4 * lane + g % 4] >> g / 8 * 4 & 15;
    const std::int32_t high = superblock.scales[2][4 * lane + g % 4] >> g / 4 * 2 & 3;
    return (low | high << 4) - 32;
  }
  static std::uint16_t lead(const Superblock& superblock, std::size_t lane) { return superblock.scale[lane]; }
};

}  // namespace

void matmul_q3_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q3_K>(op, begin, end); }

}  // namespace cria::cpu::scalar
