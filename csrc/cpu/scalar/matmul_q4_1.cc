#include "matmul_min.h"

namespace cria::cpu::scalar {
namespace {

struct Q4_1 {
  using Superblock = Q4_1Superblock;

  static std::int32_t dot(const Superblock& superblock, std::size_t, std::size_t lane, const std::int8_t* q) {
    return nibble_dot(superblock.nibbles, lane, q);
  }

  static Line line(const Superblock& superblock, std::size_t, std::size_t lane) {
    return line_of(word_of(superblock.lead, lane), 1, -1);  // this minimum is added
  }
};

}  // namespace

void matmul_q4_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_min<Q4_1>(op, begin, end); }

}  // namespace cria::cpu::scalar
