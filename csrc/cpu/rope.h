// Rotary position embedding (Su et al. 2021, §3.2.2) fused with the write of k and v to the cache.
//
// Of each head of q and k, pair i of the first `rotary_dim` dimensions turns by position * f_i:
//
//     a' = a cos - b sin     as fma(a, cos, -(b sin))
//     b' = a sin + b cos     as fma(a, sin,   b cos )
//
// A pair is (2i, 2i + 1), as Meta and GGUF store them, or (i, i + rotary_dim / 2) with `halves`, as Hugging Face
// does. The angles' cosines and sines stand in a table that rope_table fills once a batch, in float64, rounded to
// float32 at the end; no instruction set computes its own. What YaRN multiplies q and k by is in the table too.
//
// q is turned in place; k goes, turned, to the K cache and v, as it is, to the V cache, rounded to its type, or in q8_0
// quantised (kv.h). Bound by the writing of k, a store an element. In a 7B prompt all of it is 0.2 % of the time, too
// little to gather the tokens of a block first and write its rows whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/rope.h"
#include "kv.h"

namespace cria::cpu {

struct Rope {
  float* qkv;  // [tokens][(heads + 2 kv_heads) head_dim]: q, k, v; tokens `stride` floats apart
  std::size_t stride;
  const float* cosine;  // [tokens][rotary_dim / 2]
  const float* sine;    // [tokens][rotary_dim / 2]
  const KvSlot* slots;  // [tokens]
  KvLayer cache;        // of which kv_heads and head_dim are k's and v's too
  std::size_t heads;
  std::size_t rotary_dim;  // even, at most head_dim
  bool halves;
};

// Of each token its heads in groups, those of q that share a kv head, with their k and v: group g of token t is unit
// t * kv_heads + g. Units [begin, end). No two tokens of a batch share a slot.
namespace scalar {
void rope(const Rope&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void rope(const Rope&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void rope(const Rope&, std::size_t begin, std::size_t end);
}

// The table for these positions: cosine and sine [positions][angles.pairs()], times the magnitude.
void rope_table(std::span<const std::int32_t> positions, const RopeAngles& angles, float* cosine, float* sine);

// What a shift in the cache turns by: no row of such a table, for keys have their magnitude already.
void rope_shift(std::int32_t shift, const RopeAngles& angles, float* cosine, float* sine);

}  // namespace cria::cpu
