#include <bit>

#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  static constexpr int kSeedShift = std::countr_zero<std::uint32_t>(kQ4Zero / -kSeed);
  static constexpr auto kByHalves = avx2::matmul_q4;

  [[gnu::always_inline]] static void words(const std::uint8_t (&quants)[4][kLine], __m512i (&word)[kWords]) {
    const __m512i nibble = _mm512_set1_epi8(15);
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
      const __m512i line = load_line(quants[g]);
      word[g] = _mm512_and_si512(line, nibble);
      word[g + 4] = _mm512_and_si512(_mm512_srli_epi16(line, 4), nibble);
    }
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::avx512
