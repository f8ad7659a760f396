// A key or a value into a q8_0 block of the cache (kv.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../core/half.h"
#include "kv.h"

namespace cria::cpu {

// Writes x, a head's `dim` floats, to `place` of a block: element d at quant first + d * step, so a key is written with
// first = place and step = 16, a value with first = place * dim and step = 1. `quantize` is quantize_block or its twin;
// the last group, where shorter, is filled up with zeros, which change neither its scale nor its quants.
//
// Static, not inline: see reduce.h.
template <class Quantize>
static void kv_quantize(const float* x, std::size_t dim, std::uint8_t* block, std::size_t place, std::size_t first,
                        std::size_t step, const Quantize& quantize) {
  auto* out = reinterpret_cast<std::int8_t*>(block) + first;
  std::uint16_t* scale = kv_scales(block, dim) + place;
  for (std::size_t d = 0; d < dim; d += kBlock, scale += kKvBlock) {
    const std::size_t count = std::min(kBlock, dim - d);
    float group[kBlock] = {};
    std::int8_t quants[kBlock];
    std::copy_n(x + d, count, group);
    *scale = float_to_half(quantize(group, quants));
    for (std::size_t i = 0; i < count; ++i) out[(d + i) * step] = quants[i];
  }
}

}  // namespace cria::cpu
