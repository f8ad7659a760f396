#include "matmul_groups.h"

namespace cria::cpu::scalar {
namespace {

struct Q2_K {
  using Superblock = Q2KSuperblock;
  static constexpr std::int32_t kZero = 0;
  static constexpr bool kMinimum = true;

  static std::int32_t quant(const Superblock& superblock, std::size_t b, std::size_t lane, std::size_t k) {
    return byte_of(superblock.pairs[b / 4], lane, k) >> b % 4 * 2 & 3;
  }
  static std::int32_t scale(const Superblock& superblock, std::size_t g, std::size_t lane) {
    return superblock.scales[g / 4][4 * lane + g % 4] & 15;
  }
  static std::int32_t minimum(const Superblock& superblock, std::size_t g, std::size_t lane) {
    return superblock.scales[g / 4][4 * lane + g % 4] >> 4;
  }
  static std::uint16_t lead(const Superblock& superblock, std::size_t lane) {
    return static_cast<std::uint16_t>(word_of(superblock.lead, lane));
  }
  static std::uint16_t lead_minimum(const Superblock& superblock, std::size_t lane) {
    return static_cast<std::uint16_t>(word_of(superblock.lead, lane) >> 16);
  }
};

}  // namespace

void matmul_q2_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q2_K>(op, begin, end); }

}  // namespace cria::cpu::scalar
