// How the CUDA backend lays the KV cache out: an arena a layer, of blocks of 16 tokens.
//
//     arena   [block][kv_head][K, V]        K and V alike: a row a token, [16][head_dim]
//
// so that a head's block is one contiguous piece for cp.async, and its rows are what ldmatrix wants of keys (as they
// are) and of values (transposed). The elements are f32, f16 or, in q8_0, int8 quants with their scales behind them,
// [group of 32 dimensions][16 tokens] of binary16, as csrc/cpu/kv.h has them; a head's piece is filled up to a multiple
// of 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "batch.h"

namespace cria::cuda {

struct KvSide {
  std::uint8_t* data;  // K or V of block 0, head 0
  cria_type type;      // f32, f16 or q8_0
};

struct KvLayer {
  KvSide k, v;
  int kv_heads, head_dim;
  std::int64_t head_step;  // bytes from a head's block to the next head's: K and V
};

// Bytes of K or V of one head of one block.
inline std::size_t kv_side_bytes(cria_type type, std::size_t head_dim) {
  const std::size_t elements = head_dim * kKvBlock;
  if (type == CRIA_TYPE_F32) return elements * 4;
  if (type == CRIA_TYPE_F16) return elements * 2;
  return elements + (head_dim + 31) / 32 * kKvBlock * 2;  // a multiple of 32: head_dim is one of 8
}

}  // namespace cria::cuda
