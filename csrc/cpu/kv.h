// How the CPU backend lays the KV cache out: an arena a layer, cut into blocks of 16 tokens.
//
//     K of a head's block   [head_dim][16 tokens]     a lane is a key: a score is one chain over ascending d
//     V of a head's block   [16 tokens][head_dim]     a lane is a d:   an output is one chain over ascending keys
//
// So attention, like the matrix kernels, never adds across lanes. A sequence's block table names its blocks in order:
// token i of the sequence lives in block `blocks[i / 16]`, at place i % 16.
//
// In the backend's own caches K and V of a head's block stand side by side, and a head's blocks follow one another in
// groups of 32, so that a sequence whose blocks are neighbours is read in streams of 512 keys (256 KiB in f16 at 128
// dimensions) and not in pieces of 4 KiB, which memory gives at four fifths of its speed:
//
//     arena   [group of 32 blocks][kv_head][block of the group][K, V]
//
// Groups, and not all blocks of a head together, so that pages are taken as a sequence grows, in steps of up to 512
// tokens. The last group has the blocks that are left. In arrays of a caller's own K and V are apart, [block][kv_head],
// groups of one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria::cpu {

constexpr std::size_t kKvBlock =
    CRIA_KV_BLOCK;  // tokens; as many as kLanes, so that one K row is one register of scores

// The functions here are inlined by force: each instruction set's files compile them with flags of their own, and the
// linker must have no copy to choose (see reduce.h).

// Bytes of one head of one block, K or V.
[[gnu::always_inline]] inline std::size_t kv_head_bytes(cria_type type, std::size_t head_dim) {
  return head_dim * kKvBlock * (type == CRIA_TYPE_F32 ? 4 : 2);
}

// One layer of a cache.
struct KvLayer {
  std::uint8_t *k, *v;
  cria_type type;  // of both: f32 or f16
  std::size_t kv_heads, head_dim;
  std::size_t blocks;
  unsigned group_bits;  // a group is 2^group_bits blocks
  std::size_t step;     // bytes from a head's block to the next of the group

  [[gnu::always_inline]] std::size_t head_bytes() const { return kv_head_bytes(type, head_dim); }
  [[gnu::always_inline]] std::size_t offset(std::size_t block, std::size_t head) const {
    const std::size_t first = block >> group_bits << group_bits, whole = std::size_t{1} << group_bits;
    const std::size_t size = blocks - first < whole ? blocks - first : whole;
    return (first * kv_heads + head * size + block - first) * step;
  }
  [[gnu::always_inline]] std::uint8_t* k_head(std::size_t block, std::size_t head) const {
    return k + offset(block, head);
  }
  [[gnu::always_inline]] std::uint8_t* v_head(std::size_t block, std::size_t head) const {
    return v + offset(block, head);
  }
};

// Where a token's key and value stand.
struct KvSlot {
  std::uint32_t block, place;  // place < 16
};

}  // namespace cria::cpu
