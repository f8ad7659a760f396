#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q4_K {
  using Superblock = Q4KSuperblock;
  using Scales = SixBitLines<Superblock>;
  static constexpr int kPlanes = 1, kMost = 15, kTogether = 2;

  static __m256i word(const Superblock& superblock, std::size_t pair, int i, int, int g, std::size_t half) {
    const __m256i line = load_half(superblock.nibbles[pair][g], half);
    return i == 0 ? low_nibbles(line) : high_nibbles(line);
  }
};

}  // namespace

void matmul_q4_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4_K>(op, begin, end); }

}  // namespace cria::cpu::avx2
