#include "../add.h"

namespace cria::cpu::scalar {

void add(const Add& op, std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    const float* x = op.x + row * op.x_stride;
    const float* y = op.y + row * op.y_stride;
    float* out = op.out + row * op.out_stride;
    for (std::size_t c = 0; c < op.dim; ++c) out[c] = x[c] + y[c];
  }
}

}  // namespace cria::cpu::scalar
