// What the checks of matmul_q and matmul_f have in common: from the sums of a product to the whole array of outputs,
// with all that must stay as it was.
#pragma once

#include "../../csrc/cpu/silu.h"
#include "checks.h"

namespace cria::cuda::check {

// A product's sums before their finish, [tokens][rows].
struct Sums {
  int rows;
  std::vector<float> values;

  float at(int token, int row) const { return values[static_cast<std::size_t>(token) * rows + row]; }
};

// How many rows of outputs there are, of how many that the arrays have room for.
struct Batch {
  int count, capacity;
};

inline int matmul_outputs(int rows, Finish finish) { return finish == Finish::kSwiGlu ? rows / 2 : rows; }

// What becomes of `before`, [capacity][stride].
inline std::vector<float> finished(const Sums& sums, Finish finish, int count, int stride, std::vector<float> before) {
  const int outputs = matmul_outputs(sums.rows, finish);
  for (int token = 0; token < count; ++token) {
    for (int row = 0; row < outputs; ++row) {
      float& out = before[static_cast<std::size_t>(token) * stride + row];
      const float sum = sums.at(token, row);
      if (finish == Finish::kSwiGlu) {
        out = cpu::silu(sum) * sums.at(token, row + outputs);
      } else {
        out = finish == Finish::kAdd ? out + sum : sum;
      }
    }
  }
  return before;
}

// Of a token that met a NaN all outputs are NaN; which NaN is nobody's promise, so those of `actual` become expected's.
inline void expect_nan(int token, int outputs, int stride, std::vector<float>& expected, std::vector<float>& actual) {
  for (int row = 0; row < outputs; ++row) {
    const std::size_t at = static_cast<std::size_t>(token) * stride + row;
    expected[at] = std::nanf("");
    if (std::isnan(actual[at])) actual[at] = expected[at];
  }
}

// An array of outputs before and after `multiply(MatmulOut, Rows)`, [capacity][stride], with a few floats between rows.
struct Outputs {
  int stride;
  std::vector<float> before, after;
};

template <class Multiply>
Outputs run_matmul(Checks& checks, int rows, Finish finish, Batch batch, const Multiply& multiply) {
  const int stride = matmul_outputs(rows, finish) + 3;
  const std::vector<float> before = checks.normal(static_cast<std::size_t>(batch.capacity) * stride);
  const DeviceArray<float> out(checks, before);
  const DeviceRows count(checks, batch.count, batch.capacity);
  checks.require(multiply(MatmulOut{out.data(), stride, finish}, count), "matmul");
  return {stride, before, out.read()};
}

inline std::string matmul_shape(const char* type, int rows, int cols, Batch batch, Finish finish) {
  static constexpr const char* kFinishes[] = {"store", "add", "swiglu"};
  return std::string(type) + ' ' + std::to_string(rows) + 'x' + std::to_string(cols) + " by " +
         std::to_string(batch.count) + " of " + std::to_string(batch.capacity) + ' ' +
         kFinishes[static_cast<int>(finish)];
}

// The finishes that a matrix of so many rows allows.
inline std::vector<Finish> finishes(int rows) {
  if (rows % 32 != 0) return {Finish::kStore, Finish::kAdd};
  return {Finish::kStore, Finish::kAdd, Finish::kSwiGlu};
}

}  // namespace cria::cuda::check
