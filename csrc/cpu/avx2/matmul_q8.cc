#include <bit>

#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q8 {
  using Superblock = Q8Superblock;
  static constexpr int kSeedShift = std::countr_zero<std::uint32_t>(kQ8Zero / -kSeed);
  static constexpr int kPlanes = 2;

  static __m256i word(const std::uint8_t (&quants)[8][kLine], int plane, int g, std::size_t half) {
    const __m256i line = load_half(quants[g], half);
    return plane == 0 ? low_nibbles(line) : high_nibbles(line);
  }
};

}  // namespace

void matmul_q8(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q8>(op, begin, end); }

}  // namespace cria::cpu::avx2
