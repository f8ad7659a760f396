#include "matmul_q.h"
#include "words.h"

namespace cria::cpu::scalar {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  static constexpr std::int32_t kZero = kQ4Zero;

  static std::int32_t dot(const std::uint8_t (&lines)[4][kLine], std::size_t lane, const std::int8_t* q) {
    return nibble_dot(lines, lane, q);
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::scalar
