#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q8 {
  using Superblock = Q8Superblock;
  using Scales = PairScales<Superblock, kQ8Zero>;
  static constexpr int kPlanes = 2, kMost = 15, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t b, int, int plane, int g, std::size_t half) {
    const __m256i line = load_half(superblock.quants[b][g], half);
    return plane == 0 ? low_nibbles(line) : high_nibbles(line);
  }
};

}  // namespace

void matmul_q8(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q8>(op, begin, end); }

}  // namespace cria::cpu::avx2
