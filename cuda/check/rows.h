// What the checks of ops that go row by row have in common.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "checks.h"

namespace cria::cuda::check {

// `count` rows of `dim`, where there is room for `capacity`.
struct RowShape {
  int count, capacity, dim;

  std::string name() const {
    return std::to_string(count) + " of " + std::to_string(capacity) + " x " + std::to_string(dim);
  }
  std::size_t room() const { return static_cast<std::size_t>(capacity) * dim; }
};

inline std::vector<RowShape> row_shapes(const Checks& checks) {
  std::vector<RowShape> shapes = {{0, 2, 33},  {1, 1, 1},    {1, 1, 31},   {1, 3, 33},   {3, 5, 64},
                                  {2, 2, 100}, {17, 40, 36}, {1, 1, 4096}, {2, 3, 1028}, {1, 1, 2050}};
  if (checks.real_shapes) {
    for (const int dim : {4096, 5120, 8192, 11008, 28672}) {
      for (const RowShape shape : {RowShape{1, 1, dim}, {64, 64, dim}, {500, 512, dim}}) shapes.push_back(shape);
    }
  }
  return shapes;
}

// What a new DeviceArray holds, and keeps where nothing is written.
template <class T>
std::vector<T> poisoned(std::size_t count) {
  std::vector<T> values(count);
  std::memset(static_cast<void*>(values.data()), 0xff, count * sizeof(T));
  return values;
}

template <class T>
void same_array(Checks& checks, const std::string& op, const std::string& shape, const std::vector<T>& expected,
                const DeviceArray<T>& actual) {
  checks.same_bits(op, shape, expected.data(), actual.read().data(), expected.size() * sizeof(T));
}

// Values of all rows that there are, and NaN in those that must not be read.
inline std::vector<float> normal_rows(Checks& checks, const RowShape& shape) {
  std::vector<float> values = checks.normal(static_cast<std::size_t>(shape.count) * shape.dim);
  values.resize(shape.room(), std::numeric_limits<float>::quiet_NaN());
  return values;
}

}  // namespace cria::cuda::check
