// How the vector kernels go over heads: each instruction set brings the turns and the writes.
//
// Static, not inline: see reduce.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rope.h"

namespace cria::cpu {

// turn(pairs, cosine, sine, head) turns the first pairs of one head; write(k, v, dim, k_out, v_out) puts a head's k
// into a column of its K block and its v into a row of its V block, in the type of the outputs.
template <class Turn, class Write>
static void rope_heads(const Rope& op, std::size_t begin, std::size_t end, const Turn& turn, const Write& write) {
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
    const auto write_as = [&](auto* k_out, auto* v_out) {
      write(k, v, dim, k_out + slot.place, v_out + slot.place * dim);
    };
    std::uint8_t *k_block = cache.k_head(slot.block, kv_head), *v_block = cache.v_head(slot.block, kv_head);
    if (cache.type == CRIA_TYPE_F32) {
      write_as(reinterpret_cast<float*>(k_block), reinterpret_cast<float*>(v_block));
    } else {
      write_as(reinterpret_cast<std::uint16_t*>(k_block), reinterpret_cast<std::uint16_t*>(v_block));
    }
  }
}

}  // namespace cria::cpu
