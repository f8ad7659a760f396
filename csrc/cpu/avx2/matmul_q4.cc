#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  using Scales = PairScales<Superblock, kQ4Zero>;
  static constexpr int kPlanes = 1, kMost = 15, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t b, int, int, int g, std::size_t half) {
    return nibble_word(superblock.quants[b], g, half);
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::avx2
