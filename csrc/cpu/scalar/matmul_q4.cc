#include "matmul_q.h"

namespace cria::cpu::scalar {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  static constexpr std::int32_t kZero = kQ4Zero;

  static std::int32_t dot(const std::uint8_t (&lines)[4][kLine], std::size_t lane, const std::int8_t* q) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock / 2; ++k) {
      const int pair = lines[k / 4][4 * lane + k % 4];
      sum += (pair & 15) * q[k] + (pair >> 4) * q[k + kBlock / 2];
    }
    return sum;
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::scalar
