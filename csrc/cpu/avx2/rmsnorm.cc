#include "../rmsnorm.h"

#include <cmath>

#include "../reduce.h"
#include "tail.h"

namespace cria::cpu::avx2 {
namespace {

void scale_row(const float* x, float scale, const float* weight, float* out, std::size_t dim) {
  const __m256 s = _mm256_set1_ps(scale);
  std::size_t c = 0;
  for (; c + 8 <= dim; c += 8) {
    _mm256_storeu_ps(out + c, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + c), s), _mm256_loadu_ps(weight + c)));
  }
  for (; c < dim; ++c) out[c] = x[c] * scale * weight[c];
}

template <std::size_t rows>
void norm_rows(const RmsNorm& op, std::size_t row) {
  const float* x = op.x + row * op.x_stride;
  const std::size_t whole = op.dim / kLanes * kLanes;
  const Tail tail(op.dim - whole);

  __m256 low[rows] = {}, high[rows] = {};
  for (std::size_t c = 0; c < whole; c += kLanes) {
#pragma GCC unroll 2
    for (std::size_t r = 0; r < rows; ++r) {
      const __m256 a = _mm256_loadu_ps(x + r * op.x_stride + c), b = _mm256_loadu_ps(x + r * op.x_stride + c + 8);
      low[r] = _mm256_fmadd_ps(a, a, low[r]);
      high[r] = _mm256_fmadd_ps(b, b, high[r]);
    }
  }
#pragma GCC unroll 2
  for (std::size_t r = 0; r < rows; ++r) {
    const float* last = x + r * op.x_stride + whole;
    const __m256 a = tail.load_low(last), b = tail.load_high(last);
    const float sum = sum_lanes(_mm256_fmadd_ps(a, a, low[r]), _mm256_fmadd_ps(b, b, high[r]));
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(op.dim) + op.eps);
    scale_row(x + r * op.x_stride, scale, op.weight, op.out + (row + r) * op.out_stride, op.dim);
  }
}

}  // namespace

void rmsnorm(const RmsNorm& op, std::size_t begin, std::size_t end) {
  std::size_t row = begin;
  for (; row + kNormRows <= end; row += kNormRows) norm_rows<kNormRows>(op, row);
  for (; row < end; ++row) norm_rows<1>(op, row);
}

}  // namespace cria::cpu::avx2
