#include "../rope.h"

#include <cmath>
#include <type_traits>

#include "../../core/half.h"
#include "../kv_quantize.h"
#include "../quantize_block.h"

namespace cria::cpu::scalar {
namespace {

void turn(const Rope& op, const float* cosine, const float* sine, float* head) {
  const std::size_t pairs = op.rotary_dim / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    float& first = op.halves ? head[i] : head[2 * i];
    float& second = op.halves ? head[i + pairs] : head[2 * i + 1];
    const float a = first, b = second;
    first = std::fma(a, cosine[i], -(b * sine[i]));
    second = std::fma(a, sine[i], b * cosine[i]);
  }
}

void narrow(float value, float* out) { *out = value; }
void narrow(float value, std::uint16_t* out) { *out = float_to_half(value); }

// Writes a head's k to a column of its K block.
void write_key(const KvLayer& cache, KvSlot slot, std::size_t head, const float* k) {
  std::uint8_t* block = cache.k_head(slot.block, head);
  with_kv_element(cache.k.type, [&](auto element) {
    if constexpr (std::is_same_v<decltype(element), std::int8_t>) {
      kv_quantize(k, cache.head_dim, block, slot.place, slot.place, kKvBlock, quantize_block);
    } else {
      auto* out = reinterpret_cast<decltype(element)*>(block) + slot.place;
      for (std::size_t d = 0; d < cache.head_dim; ++d) narrow(k[d], out + d * kKvBlock);
    }
  });
}

// Writes a head's v to a row of its V block.
void write_value(const KvLayer& cache, KvSlot slot, std::size_t head, const float* v) {
  const std::size_t first = slot.place * cache.head_dim;
  std::uint8_t* block = cache.v_head(slot.block, head);
  with_kv_element(cache.v.type, [&](auto element) {
    if constexpr (std::is_same_v<decltype(element), std::int8_t>) {
      kv_quantize(v, cache.head_dim, block, slot.place, first, 1, quantize_block);
    } else {
      auto* out = reinterpret_cast<decltype(element)*>(block) + first;
      for (std::size_t d = 0; d < cache.head_dim; ++d) narrow(v[d], out + d);
    }
  });
}

}  // namespace

void rope(const Rope& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim, pairs = op.rotary_dim / 2;
  const std::size_t group = op.heads / op.cache.kv_heads;

  for (std::size_t unit = begin; unit < end; ++unit) {
    const std::size_t token = unit / op.cache.kv_heads, kv_head = unit % op.cache.kv_heads;
    const float *cosine = op.cosine + token * pairs, *sine = op.sine + token * pairs;
    float* row = op.qkv + token * op.stride;
    float* q = row + kv_head * group * dim;
    float* k = row + (op.heads + kv_head) * dim;
    const float* v = row + (op.heads + op.cache.kv_heads + kv_head) * dim;

    for (std::size_t head = 0; head < group; ++head) turn(op, cosine, sine, q + head * dim);
    turn(op, cosine, sine, k);
    write_key(op.cache, op.slots[token], kv_head, k);
    write_value(op.cache, op.slots[token], kv_head, v);
  }
}

}  // namespace cria::cpu::scalar
