#include "matmul_min.h"

namespace cria::cpu::scalar {
namespace {

struct Q4_K {
  using Superblock = Q4KSuperblock;

  static std::int32_t dot(const Superblock& superblock, std::size_t b, std::size_t lane, const std::int8_t* q) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock; ++k) {
      sum += (byte_of(superblock.nibbles[b / 2], lane, k) >> b % 2 * 4 & 15) * q[k];
    }
    return sum;
  }

  static Line line(const Superblock& superblock, std::size_t b, std::size_t lane) {
    return six_bit_line(superblock, b, lane);
  }
};

}  // namespace

void matmul_q4_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_min<Q4_K>(op, begin, end); }

}  // namespace cria::cpu::scalar
