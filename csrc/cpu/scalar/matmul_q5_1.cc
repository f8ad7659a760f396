#include "matmul_min.h"

namespace cria::cpu::scalar {
namespace {

struct Q5_1 {
  using Superblock = Q5_1Superblock;

  static std::int32_t dot(const Superblock& superblock, std::size_t, std::size_t lane, const std::int8_t* q) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock; ++k) {
      sum += (nibble_of(superblock.nibbles, lane, k) | fifth_of(superblock.fifths, lane, k)) * q[k];
    }
    return sum;
  }

  static Line line(const Superblock& superblock, std::size_t, std::size_t lane) {
    return line_of(word_of(superblock.lead, lane), 1, -1);  // this minimum is added
  }
};

}  // namespace

void matmul_q5_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_min<Q5_1>(op, begin, end); }

}  // namespace cria::cpu::scalar
