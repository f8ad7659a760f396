#include "matmul_q.h"

namespace cria::cpu::scalar {
namespace {

struct Q8 {
  using Superblock = Q8Superblock;
  static constexpr std::int32_t kZero = kQ8Zero;

  static std::int32_t dot(const std::uint8_t (&lines)[8][kLine], std::size_t lane, const std::int8_t* q) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock; ++k) sum += lines[k / 4][4 * lane + k % 4] * q[k];
    return sum;
  }
};

}  // namespace

void matmul_q8(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q8>(op, begin, end); }

}  // namespace cria::cpu::scalar
