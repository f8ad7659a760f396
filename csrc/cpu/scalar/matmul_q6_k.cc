#include "matmul_groups.h"

namespace cria::cpu::scalar {
namespace {

struct Q6_K {
  using Superblock = Q6KSuperblock;
  static constexpr std::int32_t kZero = 32;
  static constexpr bool kMinimum = false;

  static std::int32_t quant(const Superblock& superblock, std::size_t b, std::size_t lane, std::size_t k) {
    const std::int32_t low = byte_of(superblock.nibbles[b / 4][b % 2], lane, k) >> b % 4 / 2 * 4 & 15;
    return low | (byte_of(superblock.pairs[b / 4], lane, k) >> b % 4 * 2 & 3) << 4;
  }
  static std::int32_t scale(const Superblock& superblock, std::size_t g, std::size_t lane) {
    return static_cast<std::int8_t>(superblock.scales[g / 4][4 * lane + g % 4]);
  }
  static std::uint16_t lead(const Superblock& superblock, std::size_t lane) { return superblock.scale[lane]; }
};

}  // namespace

void matmul_q6_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q6_K>(op, begin, end); }

}  // namespace cria::cpu::scalar
