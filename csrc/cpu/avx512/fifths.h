// Quants of five bits, which a panel has apart from one another.
#pragma once

#include "matmul_q.h"

namespace cria::cpu::avx512 {

static inline __m512i five_bits(__m512i nibbles, __m512i fifths) { return with_upper_bits<16>(nibbles, fifths); }

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
