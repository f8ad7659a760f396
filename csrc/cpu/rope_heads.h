// How the vector kernels go over heads: each instruction set brings the turns and the writes.
//
// Static, not inline: see reduce.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kv_quantize.h"
#include "quantize_block.h"
#include "rope.h"

namespace cria::cpu {

// turn(pairs, cosine, sine, head) turns the first pairs of one head; Write::key(k, dim, out) puts a head's k into a
// column of its K block and Write::value(v, dim, out) its v into a row of its V block, in the type of the outputs, f32
// or f16.
template <class Write, class Turn>
static void rope_heads(const Rope& op, std::size_t begin, std::size_t end, const Turn& turn) {
  const KvLayer& cache = op.cache;
  const std::size_t dim = cache.head_dim, pairs = op.rotary_dim / 2, group = op.heads / cache.kv_heads;
  for (std::size_t unit = begin; unit < end; ++unit) {
    const std::size_t token = unit / cache.kv_heads, kv_head = unit % cache.kv_heads;
    const float *cosine = op.cosine + token * pairs, *sine = op.sine + token * pairs;
    float* row = op.qkv + token * op.stride;
    float* q = row + kv_head * group * dim;
    float* k = row + (op.heads + kv_head) * dim;
    const float* v = row + (op.heads + cache.kv_heads + kv_head) * dim;

    for (std::size_t head = 0; head < group; ++head) turn(pairs, cosine, sine, q + head * dim);
    turn(pairs, cosine, sine, k);

    const KvSlot slot = op.slots[token];
    std::uint8_t *k_block = cache.k_head(slot.block, kv_head), *v_block = cache.v_head(slot.block, kv_head);
    const std::size_t v_first = slot.place * dim;
    with_kv_element(cache.k.type, [&](auto element) {
      if constexpr (std::is_same_v<decltype(element), std::int8_t>) {
        kv_quantize(k, dim, k_block, slot.place, slot.place, kKvBlock, quantize_block_8);
      } else {
        Write::key(k, dim, reinterpret_cast<decltype(element)*>(k_block) + slot.place);
      }
    });
    with_kv_element(cache.v.type, [&](auto element) {
      if constexpr (std::is_same_v<decltype(element), std::int8_t>) {
        kv_quantize(v, dim, v_block, slot.place, v_first, 1, quantize_block_8);
      } else {
        Write::value(v, dim, reinterpret_cast<decltype(element)*>(v_block) + v_first);
      }
    });
  }
}

}  // namespace cria::cpu
