#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q4_Z {
  using Superblock = Q4_1Superblock;
  using Scales = LeadZeros<Superblock>;
  static constexpr int kPlanes = 1, kMost = 15, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t, int, int, int g, std::size_t half) {
    return nibble_word(superblock.nibbles, g, half);
  }
};

}  // namespace

void matmul_q4_z(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4_Z>(op, begin, end); }

}  // namespace cria::cpu::avx2
