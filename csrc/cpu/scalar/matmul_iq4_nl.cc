#include "matmul_q.h"
#include "words.h"

namespace cria::cpu::scalar {
namespace {

struct IQ4_NL {
  using Superblock = Q4Superblock;
  static constexpr std::int32_t kZero = kQ8Zero;

  static std::int32_t dot(const std::uint8_t (&lines)[4][kLine], std::size_t lane, const std::int8_t* q) {
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < kBlock; ++k) sum += (kIq4Values[nibble_of(lines, lane, k)] + kZero) * q[k];
    return sum;
  }
};

}  // namespace

void matmul_iq4_nl(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<IQ4_NL>(op, begin, end); }

}  // namespace cria::cpu::scalar
