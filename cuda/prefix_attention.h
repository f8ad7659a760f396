// A gated prefix beside attention, out = out + gate softmax(scale q . k) v: csrc/cpu/prefix_attention.h's formula, and
// its bits.
#pragma once

#include <cstdint>

#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct PrefixAttention {
  const float* q;         // [tokens][q_stride]: heads * head_dim, turned
  std::int64_t q_stride;  // floats
  const float* keys;      // [length][kv_heads][head_dim]
  const float* values;    // [length][kv_heads][head_dim]
  const float* gates;     // [heads]
  int length, heads, kv_heads, head_dim;
  float scale;  // 1 / sqrt(head_dim)
  float* out;   // [tokens][heads * head_dim]
  Rows rows;
};

Status prefix_attention(const PrefixAttention&, Stream);

}  // namespace cria::cuda
