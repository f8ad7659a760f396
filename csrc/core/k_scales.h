// The 6-bit scales and minima of q4_K and q5_K, of eight groups of 32 weights in twelve bytes.
//
//     byte g < 4    upper two bits of scale g + 4,      scale g
//     g + 4         upper two bits of minimum g + 4,    minimum g
//     g + 8         lower four bits of minimum g + 4,   lower four of scale g + 4
//
// Static, not inline: see cpu/reduce.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cria {

struct ScaleAndMinimum {
  int scale, minimum;
};

// Of a group, from bytes group % 4, and 4 and 8 behind it.
static inline ScaleAndMinimum scales_of(int first, int second, int third, std::size_t group) {
  if (group < 4) return {first & 63, second & 63};
  return {(third & 15) | first >> 6 << 4, third >> 4 | second >> 6 << 4};
}
static inline ScaleAndMinimum scales_of(const std::uint8_t (&packed)[12], std::size_t group) {
  const std::uint8_t* bytes = packed + group % 4;
  return scales_of(bytes[0], bytes[4], bytes[8], group);
}

static inline void put_scales(const ScaleAndMinimum (&groups)[8], std::uint8_t (&packed)[12]) {
  for (std::size_t group = 0; group < 4; ++group) {
    const ScaleAndMinimum first = groups[group], last = groups[group + 4];
    packed[group] = static_cast<std::uint8_t>(first.scale | last.scale >> 4 << 6);
    packed[group + 4] = static_cast<std::uint8_t>(first.minimum | last.minimum >> 4 << 6);
    packed[group + 8] = static_cast<std::uint8_t>((last.scale & 15) | (last.minimum & 15) << 4);
  }
}

}  // namespace cria
