#include "../rope.h"

#include <cmath>

#include "../../core/half.h"

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

// Writes a head's k to a column of its K block and its v to a row of its V block.
template <class T>
void write(const KvLayer& cache, KvSlot slot, std::size_t head, const float* k, const float* v) {
  const std::size_t dim = cache.head_dim;
  T* k_out = reinterpret_cast<T*>(cache.k_head(slot.block, head)) + slot.place;
  T* v_out = reinterpret_cast<T*>(cache.v_head(slot.block, head)) + slot.place * dim;
  for (std::size_t d = 0; d < dim; ++d) narrow(k[d], k_out + d * kKvBlock);
  for (std::size_t d = 0; d < dim; ++d) narrow(v[d], v_out + d);
}

}  // namespace

void rope(const Rope& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim, pairs = op.rotary_dim / 2;
  const auto write_cache = op.cache.type == CRIA_TYPE_F32 ? write<float> : write<std::uint16_t>;
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
    write_cache(op.cache, op.slots[token], kv_head, k, v);
  }
}

}  // namespace cria::cpu::scalar
