#include "../../csrc/cpu/swiglu.h"

#include <cmath>

#include "rows.h"

namespace cria::cuda::check {
namespace {

// Gates at exp's limits, beyond them, and at what it treats apart; up is 1, so that the result is silu itself.
const std::vector<float> kEdges = {0.0f,     -0.0f,     1e-45f, -1e-45f, 1e-8f,   86.9f,   87.0f,  87.1f,
                                   88.0f,    88.1f,     -86.9f, -87.0f,  -88.0f,  -88.1f,  200.0f, -200,
                                   INFINITY, -INFINITY, 1e38f,  -1e38f,  0.3466f, -0.3466f};

void check_edges(Checks& checks) {
  const int dim = static_cast<int>(kEdges.size()) + 1;
  std::vector<float> gate_up = kEdges, expected(dim);
  gate_up.push_back(std::nanf(""));
  gate_up.resize(2 * dim, 1.0f);
  cpu::scalar::swiglu({gate_up.data(), expected.data(), kEdges.size() + 1, 0, 0}, 0, 1);

  const DeviceArray<float> x(checks, gate_up), out(checks, dim);
  checks.require(checks.plugin.swiglu({x.data(), out.data(), DeviceRows(checks, 1, 1), dim}, checks.stream), "swiglu");
  const std::vector<float> actual = out.read();
  checks.same_bits("swiglu", "edges", expected.data(), actual.data(), sizeof(float) * kEdges.size());
  const bool expect_nan = std::isnan(expected.back()), nan = std::isnan(actual.back());
  checks.same_bits("swiglu", "NaN", &expect_nan, &nan, sizeof nan);
}

}  // namespace

void check_swiglu(Checks& checks) {
  check_edges(checks);
  for (const RowShape& shape : row_shapes(checks)) {
    std::vector<float> gate_up = normal_rows(checks, {shape.count, shape.capacity, 2 * shape.dim});
    for (float& value : gate_up) value *= 8.0f;
    auto expected = poisoned<float>(shape.room());
    const std::size_t dim = shape.dim;
    cpu::scalar::swiglu({gate_up.data(), expected.data(), dim, 2 * dim, dim}, 0, shape.count);

    const DeviceRows rows(checks, shape.count, shape.capacity);
    const DeviceArray<float> x(checks, gate_up), out(checks, shape.room());
    checks.require(checks.plugin.swiglu({x.data(), out.data(), rows, shape.dim}, checks.stream), "swiglu");
    same_array(checks, "swiglu", shape.name(), expected, out);
  }
}

}  // namespace cria::cuda::check
