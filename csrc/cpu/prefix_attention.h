// LLaMA-Adapter's gated prefix (Zhang et al. 2023, "LLaMA-Adapter", §3.2): attention over a few keys and values that
// belong to no token, with a softmax of its own, added to the attention over the tokens by a gate for each head:
//
//     out[h] = out[h] + gate[h] Σ_j softmax_j(scale q_h · k_j) v_j,     j over the whole prefix, whatever the position
//
// The keys are not turned by rope.h; the queries are. The arithmetic, for one query and one head, fixed so that no
// threads and no batch can change a bit:
//
//     score_j = (sum of q[d] k_j[d] in the order of reduce.h) * scale
//     m = max of the scores, of equal ones and beside NaN as attention.h has it;  p_j = exp(score_j - m)
//     l = sum of p_j in the order of reduce.h;  w = gate / l
//     o[d] = chain of fma(p_j, v_j[d], o[d]) over ascending j, from 0;  out[d] = fma(w, o[d], out[d])
//
// Query head h reads kv head h / (heads / kv_heads). Keys and values are f32, in no order but the prefix's own.
//
// Bound by L2: a prefix of 10 and a head of 128 dimensions are 10 KiB, read once for each token; attention over as many
// tokens costs as much.
#pragma once

#include <cstddef>

#include "../core/prefix.h"

namespace cria::cpu {

struct PrefixAttention {
  const float* q;  // [tokens][heads * head_dim], tokens `q_stride` floats apart; turned by rope.h
  std::size_t q_stride;
  const float* keys;    // [length][kv_heads][head_dim]
  const float* values;  // [length][kv_heads][head_dim]
  const float* gates;   // [heads]
  std::size_t length, heads, kv_heads, head_dim;
  float scale;  // 1 / sqrt(head_dim)
  float* out;   // [tokens][heads * head_dim], tokens `out_stride` floats apart
  std::size_t out_stride;
};

// What one query and head read and write.
struct PrefixRow {
  const float* q;       // [head_dim]
  const float* keys;    // of the first key, others `step` floats apart
  const float* values;  // likewise
  float gate;
  float* out;  // [head_dim]
};

// Row i is token i / heads and head i % heads. Static, not inline: see reduce.h.
static inline PrefixRow prefix_row(const PrefixAttention& op, std::size_t i) {
  const std::size_t token = i / op.heads, head = i % op.heads;
  const std::size_t first = head / (op.heads / op.kv_heads) * op.head_dim;
  return {op.q + token * op.q_stride + head * op.head_dim, op.keys + first, op.values + first, op.gates[head],
          op.out + token * op.out_stride + head * op.head_dim};
}

static inline std::size_t prefix_step(const PrefixAttention& op) { return op.kv_heads * op.head_dim; }

// head_dim is a multiple of 8, length at most kMaxPrefix. Rows [begin, end).
namespace scalar {
void prefix_attention(const PrefixAttention&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void prefix_attention(const PrefixAttention&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void prefix_attention(const PrefixAttention&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
