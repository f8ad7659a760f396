#include <bit>

#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  static constexpr int kSeedShift = std::countr_zero<std::uint32_t>(kQ4Zero / -kSeed);
  static constexpr int kPlanes = 1;

  static __m256i word(const std::uint8_t (&quants)[4][kLine], int, int g, std::size_t half) {
    return g < kHalfWords ? low_nibbles(load_half(quants[g], half))
                          : high_nibbles(load_half(quants[g - kHalfWords], half));
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::avx2
