// The residual connection: out[t][c] = x[t][c] + y[t][c]. Bound by memory: 8 bytes read for 4 written.
#pragma once

#include <cstddef>

namespace cria::cpu {

struct Add {
  const float* x;  // [rows][dim], rows `x_stride` floats apart
  const float* y;  // [rows][dim], rows `y_stride` floats apart
  float* out;      // [rows][dim], rows `out_stride` floats apart; may be x or y itself, must not overlap them otherwise
  std::size_t dim, x_stride, y_stride, out_stride;
};

// Rows [begin, end).
namespace scalar {
void add(const Add&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void add(const Add&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void add(const Add&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
