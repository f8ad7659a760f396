// Quants of five bits, which a panel has apart from one another.
#pragma once

#include "matmul_q.h"

namespace cria::cpu::avx2 {

// The low nibble of each byte of one, bit 4 of that of the other.
static inline __m256i five_bits(__m256i nibbles, __m256i fifths) {
  return _mm256_or_si256(low_nibbles(nibbles), _mm256_and_si256(fifths, _mm256_set1_epi8(16)));
}

// Word g of a block of 32 columns, whose fifth bits fill a line: byte i has that of the word's byte i at bit g.
static inline __m256i word_of_five(const std::uint8_t (&fifths)[kLine], const std::uint8_t (*nibbles)[kLine], int g,
                                   std::size_t half) {
  const __m256i bits = load_half(fifths, half);
  const __m256i placed = g < 4 ? _mm256_slli_epi16(bits, 4 - g) : _mm256_srli_epi16(bits, g - 4);
  return five_bits(nibble_word(nibbles, g, half), placed);
}

}  // namespace cria::cpu::avx2
