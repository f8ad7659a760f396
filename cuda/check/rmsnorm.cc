// Besides the values: the bits are the same whether a row is cut in parts (few rows) or not, in place or not, and with
// quants or without; and the quants are those that the CPU makes of what the device normalised.
#include "../../csrc/cpu/rmsnorm.h"

#include <algorithm>

#include "quants.h"

namespace cria::cuda::check {
namespace {

constexpr float kEps = 1e-5f;
constexpr double kTolerance = 2e-6;

struct Case {
  Checks& checks;
  RowShape shape;
  const DeviceArray<float>& x;
  const DeviceArray<float>& weight;

  // The bits of the rows that there are.
  std::vector<float> run(float* out, QuantRows quants, int capacity, const DeviceArray<float>& result) const {
    const DeviceRows rows(checks, shape.count, capacity);
    checks.require(checks.plugin.rmsnorm({x.data(), weight.data(), out, quants, rows, shape.dim, kEps}, checks.stream),
                   "rmsnorm");
    return result.read();
  }
};

void check_shape(Checks& checks, const RowShape& shape) {
  std::vector<float> x = normal_rows(checks, shape);
  // Two that are more than a sum of many of the others.
  if (shape.count > 0) x[0] = 30.0f, x[shape.dim - 1] = -40.0f;
  const std::vector<float> weights = checks.normal(shape.dim);
  auto expected = poisoned<float>(shape.room());
  const std::size_t dim = shape.dim, bytes = sizeof(float) * shape.count * dim;
  cpu::scalar::rmsnorm({x.data(), weights.data(), expected.data(), dim, dim, dim, kEps}, 0, shape.count);

  const DeviceArray<float> device_x(checks, x), weight(checks, weights), out(checks, shape.room());
  const DeviceQuants quants(checks, shape), quants_alone(checks, shape);
  const Case one{checks, shape, device_x, weight};
  const std::string name = shape.name();

  const std::vector<float> y = one.run(out.data(), quants, shape.capacity, out);
  const std::span<const float> all(y), all_expected(expected);
  if (bytes > 0) checks.close("rmsnorm", name, all_expected.first(bytes / 4), all.first(bytes / 4), kTolerance);
  const std::vector<float> poison = poisoned<float>(shape.room());
  checks.same_bits("rmsnorm past the rows", name, poison.data(), y.data() + bytes / 4, shape.room() * 4 - bytes);
  same_quants(checks, "rmsnorm", name, quantized_by_cpu(shape, y), quants.read());

  one.run(nullptr, quants_alone, shape.capacity, out);
  same_quants(checks, "rmsnorm without output", name, quants.read(), quants_alone.read());

  const DeviceArray<float> uncut(checks, shape.room());
  const int many = std::max(shape.capacity, 200);  // blocks of threads, so that rows are not cut
  const std::vector<float> y_uncut = one.run(uncut.data(), {}, many, uncut);
  checks.same_bits("rmsnorm of one part", name, y.data(), y_uncut.data(), y.size() * 4);

  const std::vector<float> in_place = one.run(device_x.data(), {}, shape.capacity, device_x);
  checks.same_bits("rmsnorm in place", name, y.data(), in_place.data(), bytes);
}

}  // namespace

void check_rmsnorm(Checks& checks) {
  for (const RowShape& shape : row_shapes(checks)) check_shape(checks, shape);
}

}  // namespace cria::cuda::check
