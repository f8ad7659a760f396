// Slots moved in the cache: the CPU's bits, over all layers and heads, and no other slot touched.
#include "../../csrc/cpu/kv_move.h"

#include "../../csrc/cpu/rope.h"
#include "cache.h"

namespace cria::cuda::check {
namespace {

struct Moves {
  std::string name;
  std::vector<std::int32_t> from, to;
};

// As where a sequence lost `lost` tokens: `count` move towards its beginning, in ascending order. Its blocks stand in
// the cache in descending order.
Moves closing_up(std::int32_t blocks, std::int32_t lost, std::int32_t count) {
  const auto slot = [&](std::int32_t i) { return (blocks - 1 - i / kKvBlock) * kKvBlock + i % kKvBlock; };
  Moves moves{"closing up " + std::to_string(lost), {}, {}};
  for (std::int32_t i = 0; i < count; ++i) {
    moves.from.push_back(slot(i + lost));
    moves.to.push_back(slot(i));
  }
  return moves;
}

struct Turn {
  std::size_t rotary_dim;
  bool halves;
};

void check(Checks& checks, const CacheShape& shape, const Turn& turn, const Moves& moves) {
  TwinCache cache(checks, shape);
  const std::size_t pairs = turn.rotary_dim / 2;
  std::vector<float> cosine(pairs), sine(pairs);
  cria_rope_options options{};
  options.rotary_dim = turn.rotary_dim;
  options.theta = 10000.0;
  options.scale = 1.0;
  cpu::rope_shift(-5, cria::rope_angles(options), cosine.data(), sine.data());

  std::vector<cpu::KvLayer> layers;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) layers.push_back(cache.host_layer(layer));
  const std::vector<cpu::KvRun> runs = cpu::kv_runs(moves.from, moves.to);
  cpu::scalar::kv_move({layers.data(), shape.kv_heads, runs.data(), runs.size(), turn.rotary_dim, turn.halves,
                        cosine.data(), sine.data()},
                       0, shape.layers * shape.kv_heads);

  const DeviceArray<std::int32_t> from(checks, moves.from), to(checks, moves.to);
  const DeviceArray<float> device_cosine(checks, cosine), device_sine(checks, sine);
  checks.require(checks.plugin.kv_move(
                     {cache.device_layer(), static_cast<std::int64_t>(shape.layer_bytes()),
                      static_cast<int>(shape.layers), from.data(), to.data(), static_cast<int>(moves.from.size()),
                      static_cast<int>(turn.rotary_dim), turn.halves, device_cosine.data(), device_sine.data()},
                     checks.stream),
                 "kv_move");
  const std::string name = describe(shape) + " rotary_dim " + std::to_string(turn.rotary_dim) +
                           (turn.halves ? " halves " : " adjacent ") + moves.name;
  checks.same_bits("kv_move", name, cache.host_as_device().data(), cache.device.read().data(), cache.host.size());
}

}  // namespace

void check_kv_move(Checks& checks) {
  if (checks.real_shapes) {
    for (const auto& [k, v] : cache_types()) {
      check(checks, {k, v, 2, 128, 32, 128}, {128, false}, closing_up(128, 100, 1900));
    }
    return;
  }
  const Moves scattered{"scattered", {5, 70, 33, 16, 17, 1, 2}, {40, 41, 5, 79, 78, 3, 64}};
  for (const auto& [k, v] : cache_types()) {
    check(checks, {k, v, 2, 5, 2, 40}, {40, false}, closing_up(4, 3, 40));
    check(checks, {k, v, 1, 5, 1, 80}, {34, true}, scattered);
  }
  check(checks, {CRIA_TYPE_F16, CRIA_TYPE_Q8_0, 1, 3, 1, 256}, {256, true}, closing_up(3, 1, 47));
  check(checks, {CRIA_TYPE_Q8_0, CRIA_TYPE_F32, 3, 5, 3, 64}, {0, false}, closing_up(5, 20, 60));
  check(checks, {CRIA_TYPE_Q8_0, CRIA_TYPE_F16, 1, 5, 2, 8}, {8, false}, scattered);
}

}  // namespace cria::cuda::check
