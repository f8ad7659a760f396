// A key or a value into a q8_0 block of the cache (kv.h).
//
// Functions here are static: see reduce.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/half.h"
#include "kv.h"

namespace cria::cpu {

// Writes a group's first `count` quants to out, `step` apart, and returns its scale. Of x, kBlock floats, those behind
// are zero: they change neither the scale nor the quants. `quantize` is quantize_block or its twin.
template <class Quantize>
static std::uint16_t kv_quantize_group(const float* x, std::size_t count, std::int8_t* out, std::size_t step,
                                       const Quantize& quantize) {
  std::int8_t quants[kBlock];
  const std::uint16_t scale = float_to_half(quantize(x, quants));
  for (std::size_t i = 0; i < count; ++i) out[i * step] = quants[i];
  return scale;
}

// Writes x, a head's `dim` floats, to `place` of a block: element d at quant first + d * step, so a key is written with
// first = place and step = 16, a value with first = place * dim and step = 1.
template <class Quantize>
static void kv_quantize(const float* x, std::size_t dim, std::uint8_t* block, std::size_t place, std::size_t first,
                        std::size_t step, const Quantize& quantize) {
  auto* out = reinterpret_cast<std::int8_t*>(block) + first;
  std::uint16_t* scale = kv_scales(block, dim) + place;
  for (std::size_t d = 0; d < dim; d += kBlock, scale += kKvBlock) {
    const std::size_t count = std::min(kBlock, dim - d);
    float group[kBlock] = {};
    std::copy_n(x + d, count, group);
    *scale = kv_quantize_group(group, count, out + d * step, step, quantize);
  }
}

}  // namespace cria::cpu
