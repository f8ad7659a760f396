// Keys and values moved from slots to slots of the KV cache, keys turned on the way: what a sequence that lost tokens
// in its middle needs, or one that is to write to a block that it shares.
//
// RoPE turns pair i of a key at position p by p * f_i (rope.h), so a turn by s * f_i more makes it the key at p + s:
// rotations of a plane add up (Su et al. 2021, eq. 34). All keys turn by the same s, so the table has one row. Turned,
// a key is rounded to the cache's type a second time, in q8_0 quantised in those groups of 32 dimensions of which one
// turns; values, what does not turn of keys, and keys that are not turned are copied, as they are stored.
//
// Slots are taken in runs that stay in one block on either side, so that a row of K is moved at once:
//
//     K of a head's block   d0  . . . . a b c d e f g h i j k l      from place 4, twelve tokens
//                           d0  a b c d e f g h i j k l . . . .      to place 0
//                           ...
//     V of a head's block   twelve rows, one after another, on either side
//
// The scales of q8_0, in K and in V, are rows as those of K.
//
// Keys and values of a run are read before its own are written; runs follow one another in the order of the moves.
//
// Bound by the conversion of f16 and the moves of 32 bytes; it does not promise to be near memory's speed. 2,000 tokens
// of a 7B model are 1 GB, and take 0.2 to 0.5 s of two threads; to compute them anew takes a hundred times that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kv.h"

namespace cria::cpu {

struct KvRun {
  KvSlot from, to;
  std::uint32_t count;  // of slots, from each on: at least 1, and place + count <= 16
};

struct KvMove {
  const KvLayer* layers;
  std::size_t kv_heads;
  const KvRun* runs;
  std::size_t run_count;
  std::size_t rotary_dim = 0;  // even, at most head_dim; 0: keys are copied
  bool halves = false;
  const float* cosine = nullptr;  // [rotary_dim / 2] of the shift
  const float* sine = nullptr;
};

// All runs of one head of one layer: head h of layer l is unit l * kv_heads + h. Units [begin, end).
namespace scalar {
void kv_move(const KvMove&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void kv_move(const KvMove&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void kv_move(const KvMove&, std::size_t begin, std::size_t end);
}

// The moves from[i] to to[i], of slots that are block * 16 + place, in as few runs as keep their order.
std::vector<KvRun> kv_runs(std::span<const std::int32_t> from, std::span<const std::int32_t> to);

}  // namespace cria::cpu
