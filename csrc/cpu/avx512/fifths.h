// Quants of five bits, which a panel has apart from one another.
#pragma once

#include "matmul_q.h"

namespace cria::cpu::avx512 {

// The low nibble of each byte of one, bit 4 of that of the other.
static inline __m512i five_bits(__m512i nibbles, __m512i fifths) {
  constexpr int kOther = 0xe4;  // c ? a : b, a being the nibbles and c the mask
  const __m512i both = _mm512_ternarylogic_epi32(nibbles, fifths, _mm512_set1_epi8(15), kOther);
  return _mm512_and_si512(both, _mm512_set1_epi8(31));
}

// The words of a block of 32 columns, whose fifth bits fill a line: byte i has that of word g's byte i at bit g.
[[gnu::always_inline]] static inline void words_of_five(const std::uint8_t (&fifths)[kLine],
                                                        const std::uint8_t (*nibbles)[kLine], __m512i (&word)[kWords]) {
  const __m512i bits = load_line(fifths);
#pragma GCC unroll 4
  for (int g = 0; g < kWords / 2; ++g) {
    const __m512i line = load_line(nibbles[g]);
    word[g] = five_bits(line, _mm512_slli_epi16(bits, 4 - g));
    word[g + kWords / 2] = five_bits(_mm512_srli_epi16(line, 4), _mm512_srli_epi16(bits, g));
  }
}

}  // namespace cria::cpu::avx512
