#include "../add.h"

#include <immintrin.h>

namespace cria::cpu::avx2 {

void add(const Add& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / 8 * 8;

  for (std::size_t row = begin; row < end; ++row) {
    const float* x = op.x + row * op.x_stride;
    const float* y = op.y + row * op.y_stride;
    float* out = op.out + row * op.out_stride;
    for (std::size_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c, _mm256_add_ps(_mm256_loadu_ps(x + c), _mm256_loadu_ps(y + c)));
    }
    for (std::size_t c = whole; c < op.dim; ++c) out[c] = x[c] + y[c];
  }
}

}  // namespace cria::cpu::avx2
