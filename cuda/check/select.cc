#include <algorithm>

#include "rows.h"

namespace cria::cuda::check {

void check_select(Checks& checks) {
  for (const RowShape& shape : row_shapes(checks)) {
    const int tokens = 9;
    const std::vector<float> x = checks.normal(static_cast<std::size_t>(tokens) * shape.dim);
    auto chosen = poisoned<std::int32_t>(shape.capacity);
    auto expected = poisoned<float>(shape.room());
    for (int row = 0; row < shape.count; ++row) {
      chosen[row] = static_cast<std::int32_t>(checks.random() % tokens);
      std::copy_n(&x[static_cast<std::size_t>(chosen[row]) * shape.dim], shape.dim,
                  &expected[static_cast<std::size_t>(row) * shape.dim]);
    }
    const DeviceRows rows(checks, shape.count, shape.capacity);
    const DeviceArray<float> device_x(checks, x), out(checks, shape.room());
    const DeviceArray<std::int32_t> device_chosen(checks, chosen);
    checks.require(
        checks.plugin.select({device_x.data(), device_chosen.data(), out.data(), rows, shape.dim}, checks.stream),
        "select");
    same_array(checks, "select", shape.name(), expected, out);
  }
}

}  // namespace cria::cuda::check
