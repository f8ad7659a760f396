#include "../../csrc/cpu/add.h"

#include "rows.h"

namespace cria::cuda::check {

void check_add(Checks& checks) {
  for (const RowShape& shape : row_shapes(checks)) {
    const std::vector<float> x = normal_rows(checks, shape), y = normal_rows(checks, shape);
    auto expected = poisoned<float>(shape.room());
    const std::size_t dim = shape.dim;
    cpu::scalar::add({x.data(), y.data(), expected.data(), dim, dim, dim, dim}, 0, shape.count);

    const DeviceRows rows(checks, shape.count, shape.capacity);
    const DeviceArray<float> device_x(checks, x), device_y(checks, y), out(checks, shape.room());
    checks.require(checks.plugin.add({device_x.data(), device_y.data(), out.data(), rows, shape.dim}, checks.stream),
                   "add");
    same_array(checks, "add", shape.name(), expected, out);

    checks.require(
        checks.plugin.add({device_x.data(), device_y.data(), device_x.data(), rows, shape.dim}, checks.stream), "add");
    const std::vector<float> in_place = device_x.read();
    checks.same_bits("add in place", shape.name(), expected.data(), in_place.data(), sizeof(float) * shape.count * dim);
  }
}

}  // namespace cria::cuda::check
