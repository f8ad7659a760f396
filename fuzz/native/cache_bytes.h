// The bytes of a cache: how many there are, and whether two hold the same.
#pragma once

#include <cstring>
#include <span>

#include "check.h"

namespace cria::fuzz {

// Of K or V of one head of one block, as cria_kv_layer has them.
inline std::size_t head_bytes(cria_type type, std::size_t head_dim) {
  const std::size_t elements = CRIA_KV_BLOCK * head_dim, scales = (head_dim + 31) / 32 * CRIA_KV_BLOCK;
  if (type == CRIA_TYPE_Q8_0) return elements + 2 * scales;
  return elements * (type == CRIA_TYPE_F32 ? 4 : 2);
}

inline bool same_halves(const std::uint8_t* a, const std::uint8_t* b, std::size_t count) {
  const auto is_nan = [](std::uint16_t half) { return (half & 0x7fff) > 0x7c00; };
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t x, y;
    std::memcpy(&x, a + 2 * i, 2);
    std::memcpy(&y, b + 2 * i, 2);
    if (x != y && !(is_nan(x) && is_nan(y))) return false;
  }
  return true;
}

inline bool same_head(cria_type type, std::size_t head_dim, const std::uint8_t* a, const std::uint8_t* b) {
  const std::size_t elements = CRIA_KV_BLOCK * head_dim;
  switch (type) {
    case CRIA_TYPE_F32: {
      std::vector<float> x(elements), y(elements);
      std::memcpy(x.data(), a, elements * sizeof(float));
      std::memcpy(y.data(), b, elements * sizeof(float));
      return same(std::span<const float>(x), std::span<const float>(y));
    }
    case CRIA_TYPE_F16:
      return same_halves(a, b, elements);
    default:
      return std::memcmp(a, b, elements) == 0 &&
             same_halves(a + elements, b + elements, (head_dim + 31) / 32 * CRIA_KV_BLOCK);
  }
}

// Of heads that stand one after another, of these types in turn. A NaN equals every other NaN.
inline bool same_heads(std::span<const cria_type> types, std::size_t head_dim, std::span<const std::uint8_t> a,
                       std::span<const std::uint8_t> b) {
  if (a.size() != b.size()) return false;
  std::size_t at = 0;
  for (std::size_t i = 0; at < a.size(); ++i) {
    const cria_type type = types[i % types.size()];
    if (!same_head(type, head_dim, a.data() + at, b.data() + at)) return false;
    at += head_bytes(type, head_dim);
  }
  return true;
}

}  // namespace cria::fuzz
