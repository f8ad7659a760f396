// A row's share of a panel's lines.
//
// Static, not inline: see reduce.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../panel.h"

namespace cria::cpu::scalar {

static inline std::uint32_t word_of(const std::uint8_t (&line)[kLine], std::size_t lane) {
  std::uint32_t word;
  std::memcpy(&word, line + 4 * lane, sizeof word);
  return word;
}

// The row's byte for column k of 32, in the eight lines that have a byte for each.
static inline std::int32_t byte_of(const std::uint8_t (&lines)[8][kLine], std::size_t lane, std::size_t k) {
  return lines[k / 4][4 * lane + k % 4];
}

// The row's nibble for column k of 32, in the four lines that have two for each byte.
static inline std::int32_t nibble_of(const std::uint8_t (&lines)[4][kLine], std::size_t lane, std::size_t k) {
  return lines[k % 16 / 4][4 * lane + k % 4] >> k / 16 * 4 & 15;
}

// Σ_k u_k q_k over such lines.
static inline std::int32_t nibble_dot(const std::uint8_t (&lines)[4][kLine], std::size_t lane, const std::int8_t* q) {
  std::int32_t sum = 0;
  for (std::size_t k = 0; k < kBlock / 2; ++k) {
    const int pair = lines[k / 4][4 * lane + k % 4];
    sum += (pair & 15) * q[k] + (pair >> 4) * q[k + kBlock / 2];
  }
  return sum;
}

// The row's fifth bit for column k of 32, at its place, in the line of panel.h.
static inline std::int32_t fifth_of(const std::uint8_t (&line)[kLine], std::size_t lane, std::size_t k) {
  return (line[4 * lane + k % 4] >> k / 4 & 1) << 4;
}

}  // namespace cria::cpu::scalar
