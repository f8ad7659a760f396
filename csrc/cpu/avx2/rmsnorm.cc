#include "../rmsnorm.h"

#include <cmath>

#include "../reduce.h"
#include "tail.h"

namespace cria::cpu::avx2 {

void rmsnorm(const RmsNorm& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / kLanes * kLanes;
  const Tail tail(op.dim - whole);

  for (std::size_t row = begin; row < end; ++row) {
    const float* x = op.x + row * op.x_stride;
    float* out = op.out + row * op.out_stride;

    // Two chains of four-cycle FMAs keep up with L2, where the row comes from; a third would break reduce.h's order.
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
    for (std::size_t c = 0; c < whole; c += kLanes) {
      const __m256 a = _mm256_loadu_ps(x + c), b = _mm256_loadu_ps(x + c + 8);
      low = _mm256_fmadd_ps(a, a, low);
      high = _mm256_fmadd_ps(b, b, high);
    }
    const __m256 a = tail.load_low(x + whole), b = tail.load_high(x + whole);
    low = _mm256_fmadd_ps(a, a, low);
    high = _mm256_fmadd_ps(b, b, high);

    const float scale = 1.0f / std::sqrt(sum_lanes(low, high) / static_cast<float>(op.dim) + op.eps);
    const __m256 s = _mm256_set1_ps(scale);
    for (std::size_t c = 0; c < whole; c += 8) {
      _mm256_storeu_ps(out + c,
                       _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + c), s), _mm256_loadu_ps(op.weight + c)));
    }
    for (std::size_t c = whole; c < op.dim; ++c) out[c] = x[c] * scale * op.weight[c];
  }
}

}  // namespace cria::cpu::avx2
