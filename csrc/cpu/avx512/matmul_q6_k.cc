#include "matmul_groups.h"

namespace cria::cpu::avx512 {
namespace {

struct Q6_K {
  using Superblock = Q6KSuperblock;
  static constexpr std::int32_t kZero = 32;
  static constexpr auto kByHalves = avx2::matmul_q6_k;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t b, __m512i (&word)[kWords]) {
    const __m512i nibble = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(48);
    // Of each byte of pairs the two bits of this block, at bits 4 and 5; shifts move them across no byte that is kept.
    const int shift = static_cast<int>(b % 4 * 2);
    const __m128i left = _mm_cvtsi32_si128(shift < 4 ? 4 - shift : 0), right = _mm_cvtsi32_si128(shift > 4 ? 2 : 0);
    const __m128i low = _mm_cvtsi32_si128(b % 4 < 2 ? 0 : 4);
#pragma GCC unroll 8
    for (int g = 0; g < kWords; ++g) {
      const __m512i nibbles = load_words(superblock.nibbles[b / 4][b % 2][g]);
      const __m512i pairs = load_words(superblock.pairs[b / 4][g]);
      const __m512i placed = _mm512_srl_epi16(_mm512_sll_epi16(pairs, left), right);
      word[g] =
          _mm512_or_si512(_mm512_and_si512(_mm512_srl_epi16(nibbles, low), nibble), _mm512_and_si512(placed, upper));
    }
  }

  [[gnu::always_inline]] static __m512i scales(const Superblock& superblock, std::size_t word) {
    return load_words(superblock.scales[word]);
  }
};

}  // namespace

void matmul_q6_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<GroupOperands, Q6_K>(op, begin, end); }

}  // namespace cria::cpu::avx512
