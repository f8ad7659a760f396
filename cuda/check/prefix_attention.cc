// The gated prefix: the CPU's bits, and nothing beside the rows that there are.
#include "../../csrc/cpu/prefix_attention.h"

#include <cmath>

#include "rows.h"

namespace cria::cuda::check {
namespace {

struct Shape {
  int count, capacity, length, heads, kv_heads, head_dim;

  std::string name() const {
    return std::to_string(count) + " of " + std::to_string(capacity) + ", " + std::to_string(length) + " keys, heads " +
           std::to_string(heads) + "/" + std::to_string(kv_heads) + " x " + std::to_string(head_dim);
  }
};

void check(Checks& checks, const Shape& shape) {
  const int width = shape.heads * shape.head_dim, key = shape.kv_heads * shape.head_dim, wide = width + 2 * key;
  const RowShape queries{shape.count, shape.capacity, wide}, outs{shape.count, shape.capacity, width};
  const std::vector<float> q = normal_rows(checks, queries), keys = checks.normal(shape.length * key);
  const std::vector<float> values = checks.normal(shape.length * key), gates = checks.normal(shape.heads);
  std::vector<float> expected = normal_rows(checks, outs);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));

  const DeviceArray<float> q_there(checks, q), keys_there(checks, keys), values_there(checks, values);
  const DeviceArray<float> gates_there(checks, gates), out(checks, expected);
  const auto size = [](int n) { return static_cast<std::size_t>(n); };
  cpu::scalar::prefix_attention(
      {q.data(), size(wide), keys.data(), values.data(), gates.data(), size(shape.length), size(shape.heads),
       size(shape.kv_heads), size(shape.head_dim), scale, expected.data(), size(width)},
      0, size(shape.count) * size(shape.heads));
  checks.require(
      checks.plugin.prefix_attention(
          {q_there.data(), wide, keys_there.data(), values_there.data(), gates_there.data(), shape.length, shape.heads,
           shape.kv_heads, shape.head_dim, scale, out.data(), DeviceRows(checks, shape.count, shape.capacity)},
          checks.stream),
      "prefix_attention");
  same_array(checks, "prefix_attention", shape.name(), expected, out);
}

}  // namespace

void check_prefix_attention(Checks& checks) {
  for (const Shape& shape : {Shape{1, 1, 1, 1, 1, 8}, Shape{3, 5, 10, 4, 2, 40}, Shape{2, 2, 17, 9, 3, 24},
                             Shape{1, 2, 256, 2, 2, 64}, Shape{0, 2, 10, 4, 4, 16}}) {
    check(checks, shape);
  }
  if (!checks.real_shapes) return;
  for (const int tokens : {1, 64, 512}) check(checks, {tokens, tokens, 10, 32, 32, 128});
}

}  // namespace cria::cuda::check
