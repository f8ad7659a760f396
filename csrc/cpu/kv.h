// How the CPU backend lays the KV cache out: per layer one arena for K and one for V, cut into blocks of 16 tokens.
//
//     K block   [kv_head][head_dim][16 tokens]     a lane is a key: a score is one chain over ascending d
//     V block   [kv_head][16 tokens][head_dim]     a lane is a d:   an output is one chain over ascending keys
//
// So attention, like the matrix kernels, never adds across lanes. A sequence's block table names its blocks in order:
// token i of the sequence lives in block `blocks[i / 16]`, at place i % 16.
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

// One layer of the cache.
struct KvLayer {
  std::uint8_t* k;
  std::uint8_t* v;
  cria_type type;  // of both: f32 or f16
  std::size_t kv_heads, head_dim;

  [[gnu::always_inline]] std::size_t head_bytes() const { return kv_head_bytes(type, head_dim); }
  [[gnu::always_inline]] std::uint8_t* k_head(std::size_t block, std::size_t head) const {
    return k + (block * kv_heads + head) * head_bytes();
  }
  [[gnu::always_inline]] std::uint8_t* v_head(std::size_t block, std::size_t head) const {
    return v + (block * kv_heads + head) * head_bytes();
  }
};

// Where a token's key and value stand.
struct KvSlot {
  std::uint32_t block, place;  // place < 16
};

}  // namespace cria::cpu
