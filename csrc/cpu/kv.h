// How the CPU backend lays the KV cache out: an arena a layer, cut into blocks of 16 tokens.
//
//     K of a head's block   [head_dim][16 tokens]     a lane is a key: a score is one chain over ascending d
//     V of a head's block   [16 tokens][head_dim]     a lane is a d:   an output is one chain over ascending keys
//
// So attention, like the matrix kernels, never adds across lanes. A sequence's block table names its blocks in order:
// token i of the sequence lives in block `blocks[i / 16]`, at place i % 16.
//
// The elements are f32, f16 or, in q8_0, int8 quants, of K and V each. A q8_0 block has its scales, one a token and 32
// dimensions (the last group of a head may be shorter), as binary16 behind its quants, in K and in V alike:
//
//     K    ┌ 16 keys of dimension 0 ┐┌ dimension 1 ┐ ... ┌ 16 scales of dimensions 0 to 31 ┐┌ 32 to 63 ┐ ...
//     V    ┌ head_dim values of token 0 ┐┌ token 1 ┐ ... ┌ 16 scales of dimensions 0 to 31 ┐┌ 32 to 63 ┐ ...
//          int8                                          f16, a lane is a token
//
// scale = max |x| / 127, quant = x * (127 / max |x|) to the nearest integer, ties to even, as block_scale has it, with
// the scale rounded to binary16 afterwards, as in GGUF's q8_0: 8.5 bits an element. The value is quant * scale, and
// exact in f32: 8 bits times 11. A group that is read and quantised again comes out as it was, for its largest quant is
// 127 and its scale then that very number; binary32 scales would cost another half a bit and gain nothing that int8
// shows. Of a group whose largest is below 2^-7 the scale is subnormal and loses digits (1e-4 comes out up to 4 % off),
// of one above 8.3e6, 127 times what f16 holds, it is infinite. A group that holds NaN or an infinity is NaN.
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

#include "../core/weights.h"
#include "../cria.h"

namespace cria::cpu {

constexpr std::size_t kKvBlock =
    CRIA_KV_BLOCK;  // tokens; as many as kLanes, so that one K row is one register of scores

// The functions here are inlined by force: each instruction set's files compile them with flags of their own, and the
// linker must have no copy to choose (see reduce.h).

// Calls f with an element of a cache's type: float, std::uint16_t for f16, std::int8_t for q8_0.
template <class F>
[[gnu::always_inline]] inline auto with_kv_element(cria_type type, F f) {
  switch (type) {
    case CRIA_TYPE_F32:
      return f(float());
    case CRIA_TYPE_F16:
      return f(std::uint16_t());
    default:
      return f(std::int8_t());
  }
}

// Groups of dimensions that have a scale in q8_0.
[[gnu::always_inline]] inline std::size_t kv_groups(std::size_t head_dim) { return (head_dim + kBlock - 1) / kBlock; }

// Bytes of one head of one block, K or V.
[[gnu::always_inline]] inline std::size_t kv_head_bytes(cria_type type, std::size_t head_dim) {
  const std::size_t elements = head_dim * kKvBlock;
  if (type == CRIA_TYPE_Q8_0) return elements + kv_groups(head_dim) * kKvBlock * sizeof(std::uint16_t);
  return elements * (type == CRIA_TYPE_F32 ? sizeof(float) : sizeof(std::uint16_t));
}

// The scales of a q8_0 block: that of group g of the token at `place` is [g * kKvBlock + place].
[[gnu::always_inline]] inline std::uint16_t* kv_scales(std::uint8_t* block, std::size_t head_dim) {
  return reinterpret_cast<std::uint16_t*>(block + head_dim * kKvBlock);
}
[[gnu::always_inline]] inline const std::uint16_t* kv_scales(const std::uint8_t* block, std::size_t head_dim) {
  return reinterpret_cast<const std::uint16_t*>(block + head_dim * kKvBlock);
}

// K or V of one layer of a cache.
struct KvSide {
  std::uint8_t* data;
  cria_type type;    // f32, f16 or q8_0
  std::size_t step;  // bytes from a head's block to the next of the group
};

// One layer of a cache.
struct KvLayer {
  KvSide k, v;
  std::size_t kv_heads, head_dim;
  std::size_t blocks;
  unsigned group_bits;  // a group is 2^group_bits blocks

  // Bytes of K and V of one head of one block.
  [[gnu::always_inline]] std::size_t head_bytes() const {
    return kv_head_bytes(k.type, head_dim) + kv_head_bytes(v.type, head_dim);
  }
  [[gnu::always_inline]] std::uint8_t* k_head(std::size_t block, std::size_t head) const {
    return k.data + index(block, head) * k.step;
  }
  [[gnu::always_inline]] std::uint8_t* v_head(std::size_t block, std::size_t head) const {
    return v.data + index(block, head) * v.step;
  }

 private:
  // Of a head's block among those of all heads.
  [[gnu::always_inline]] std::size_t index(std::size_t block, std::size_t head) const {
    const std::size_t first = block >> group_bits << group_bits, whole = std::size_t{1} << group_bits;
    const std::size_t size = blocks - first < whole ? blocks - first : whole;
    return first * kv_heads + head * size + block - first;
  }
};

// Where a token's key and value stand.
struct KvSlot {
  std::uint32_t block, place;  // place < 16
};

}  // namespace cria::cpu
