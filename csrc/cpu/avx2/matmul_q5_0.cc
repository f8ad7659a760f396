#include "fifths.h"

namespace cria::cpu::avx2 {
namespace {

struct Q5_0 {
  using Superblock = Q5Superblock;
  using Scales = PairScales<Superblock, kQ5Zero>;
  static constexpr int kPlanes = 1, kMost = 31, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t b, int, int, int g, std::size_t half) {
    return word_of_five(superblock.quants[b][0], superblock.quants[b] + 1, g, half);
  }
};

}  // namespace

void matmul_q5_0(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q5_0>(op, begin, end); }

}  // namespace cria::cpu::avx2
