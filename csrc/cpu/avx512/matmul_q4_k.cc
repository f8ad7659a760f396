#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q4_K {
  using Superblock = Q4KSuperblock;
  using Scales = SixBitLines<Superblock>;
  static constexpr auto kByHalves = avx2::matmul_q4_k;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t b, __m512i (&word)[kWords]) {
    const __m512i place = _mm512_set1_epi32(static_cast<int>(b % 2 * 4));
#pragma GCC unroll 8
    for (int g = 0; g < kWords; ++g) {
      word[g] = low_nibbles(_mm512_srlv_epi32(load_line(superblock.nibbles[b / 2][g]), place));
    }
  }
};

}  // namespace

void matmul_q4_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q4_K>(op, begin, end); }

}  // namespace cria::cpu::avx512
