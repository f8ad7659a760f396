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

// Writes one token's k and v, each [kv_heads][head_dim].
template <class T>
void write(const KvLayer& cache, KvSlot slot, const float* k, const float* v) {
  const std::size_t dim = cache.head_dim;
  for (std::size_t head = 0; head < cache.kv_heads; ++head, k += dim, v += dim) {
    T* k_out = reinterpret_cast<T*>(cache.k_head(slot.block, head)) + slot.place;
    T* v_out = reinterpret_cast<T*>(cache.v_head(slot.block, head)) + slot.place * dim;
    for (std::size_t d = 0; d < dim; ++d) narrow(k[d], k_out + d * kKvBlock);
    for (std::size_t d = 0; d < dim; ++d) narrow(v[d], v_out + d);
  }
}

}  // namespace

void rope(const Rope& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim, pairs = op.rotary_dim / 2;
  const auto write_cache = op.cache.type == CRIA_TYPE_F32 ? write<float> : write<std::uint16_t>;

  for (std::size_t token = begin; token < end; ++token) {
    float* q = op.qkv + token * op.stride;
    float* k = q + op.heads * dim;
    const float* v = k + op.cache.kv_heads * dim;
    for (float* head = q; head < v; head += dim) turn(op, op.cosine + token * pairs, op.sine + token * pairs, head);
    write_cache(op.cache, op.slots[token], k, v);
  }
}

}  // namespace cria::cpu::scalar
