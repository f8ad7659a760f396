// RoPE and the write to the cache: the CPU's bits, in every type of cache, and nothing beside the rows that there are.
#include "../../csrc/cpu/rope.h"

#include <cmath>

#include "batch.h"
#include "cache.h"

namespace cria::cuda::check {
namespace {

// No power of theta, as scalings make them.
constexpr double kMagnitude = 1.25;

struct Shape {
  cria_type k, v;
  std::size_t heads, kv_heads, head_dim, rotary_dim;
  bool halves;
  std::vector<Lengths> lengths;
};

cria::RopeAngles angles_of(std::size_t rotary_dim) {
  cria::RopeAngles angles{{}, kMagnitude};
  for (std::size_t i = 0; i < rotary_dim / 2; ++i) {
    angles.frequencies.push_back(std::pow(2.0, -static_cast<double>(i)) / (i % 2 == 0 ? 1.0 : 3.0));
  }
  return angles;
}

// The table and one layer's rope, both sides from the same numbers.
void check(Checks& checks, const Shape& shape) {
  constexpr std::size_t kUnused = 3;  // rows of the capacity without a token
  std::size_t tokens = 0;
  for (const Lengths& length : shape.lengths) tokens += length.fresh;
  const std::size_t capacity = tokens + kUnused, pairs = shape.rotary_dim / 2;
  const std::size_t width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;

  const TestBatch batch(checks, shape.lengths, static_cast<std::int32_t>(capacity));
  TwinCache cache(checks, {shape.k, shape.v, 1, batch.block_count, shape.kv_heads, shape.head_dim});
  const std::string name = describe(cache.shape) + " heads " + std::to_string(shape.heads) + " rotary_dim " +
                           std::to_string(shape.rotary_dim) + (shape.halves ? " halves" : " adjacent") + " tokens " +
                           std::to_string(tokens);

  const cria::RopeAngles angles = angles_of(shape.rotary_dim);
  // All of the capacity, in which unused rows stay as they are: NaN in the angles, numbers in qkv.
  const DeviceArray<double> device_frequencies(checks, angles.frequencies);
  DeviceArray<float> cosine(checks, capacity * pairs), sine(checks, capacity * pairs);
  std::vector<float> expected_cosine = cosine.read(), expected_sine = sine.read();
  cpu::rope_table(std::span(batch.positions).first(tokens), angles, expected_cosine.data(), expected_sine.data());
  checks.require(checks.plugin.rope_angles({batch.device(), batch.rows(), device_frequencies.data(),
                                            static_cast<int>(pairs), angles.magnitude, cosine.data(), sine.data()},
                                           checks.stream),
                 "rope_angles");
  const std::size_t table_bytes = capacity * pairs * sizeof(float);
  checks.same_bits("rope_angles cosine", name, expected_cosine.data(), cosine.read().data(), table_bytes);
  checks.same_bits("rope_angles sine", name, expected_sine.data(), sine.read().data(), table_bytes);

  std::vector<float> qkv = checks.normal(capacity * width);
  const DeviceArray<float> device_qkv(checks, qkv);
  std::vector<cpu::KvSlot> slots;
  for (std::size_t row = 0; row < tokens; ++row) {
    const BatchSequence& sequence = batch.sequences[batch.sequence_of[row]];
    const std::int32_t index = sequence.past + static_cast<std::int32_t>(row) - sequence.first;
    slots.push_back({static_cast<std::uint32_t>(batch.blocks[sequence.table + index / kKvBlock]),
                     static_cast<std::uint32_t>(index % kKvBlock)});
  }
  cpu::scalar::rope({qkv.data(), width, expected_cosine.data(), expected_sine.data(), slots.data(), cache.host_layer(),
                     shape.heads, shape.rotary_dim, shape.halves},
                    0, tokens * shape.kv_heads);
  checks.require(checks.plugin.rope(
                     {device_qkv.data(), cosine.data(), sine.data(), batch.device(), batch.rows(), cache.device_layer(),
                      static_cast<int>(shape.heads), static_cast<int>(shape.rotary_dim), shape.halves},
                     checks.stream),
                 "rope");

  checks.same_bits("rope qkv", name, qkv.data(), device_qkv.read().data(), qkv.size() * sizeof(float));
  checks.same_bits("rope cache", name, cache.host_as_device().data(), cache.device.read().data(), cache.host.size());
}

}  // namespace

void check_rope(Checks& checks) {
  if (checks.real_shapes) {
    for (const auto& [k, v] : cache_types()) check(checks, {k, v, 32, 32, 128, 128, false, {{0, 512}, {1000, 1}}});
    check(checks, {CRIA_TYPE_F16, CRIA_TYPE_F16, 64, 8, 128, 128, true, {{8191, 1}, {0, 4096}}});
    return;
  }
  const std::vector<Lengths> lengths = {{0, 1}, {15, 3}, {33, 2}};
  for (const auto& [k, v] : cache_types()) check(checks, {k, v, 4, 2, 40, 40, false, lengths});
  for (const bool halves : {false, true}) {
    check(checks, {CRIA_TYPE_F16, CRIA_TYPE_Q8_0, 3, 3, 64, 48, halves, lengths});
    check(checks, {CRIA_TYPE_Q8_0, CRIA_TYPE_F16, 8, 1, 80, 20, halves, {{7, 9}}});
    check(checks, {CRIA_TYPE_F16, CRIA_TYPE_F16, 1, 1, 8, 2, halves, {{100000, 1}}});
  }
  check(checks, {CRIA_TYPE_F32, CRIA_TYPE_Q8_0, 2, 1, 256, 256, true, {{0, 2}}});
}

}  // namespace cria::cuda::check
