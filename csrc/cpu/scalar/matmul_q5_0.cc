#include "matmul_q.h"
#include "words.h"

namespace cria::cpu::scalar {
namespace {

struct Q5_0 {
  using Superblock = Q5Superblock;
  static constexpr std::int32_t kZero = kQ5Zero;

  static std::int32_t dot(const std::uint8_t (&lines)[5][kLine], std::size_t lane, const std::int8_t* q) {
    const auto& nibbles = reinterpret_cast<const std::uint8_t(&)[4][kLine]>(lines[1]);
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock; ++k) {
      sum += (nibble_of(nibbles, lane, k) | fifth_of(lines[0], lane, k)) * q[k];
    }
    return sum;
  }
};

}  // namespace

void matmul_q5_0(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q5_0>(op, begin, end); }

}  // namespace cria::cpu::scalar
