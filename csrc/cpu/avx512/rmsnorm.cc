#include "../rmsnorm.h"

#include <cmath>

#include "../reduce.h"
#include "tail.h"

namespace cria::cpu::avx512 {
namespace {

void scale_row(const float* x, float scale, const float* weight, float* out, std::size_t dim) {
  const __m512 s = _mm512_set1_ps(scale);
  const std::size_t whole = dim / kLanes * kLanes;
  for (std::size_t c = 0; c < whole; c += kLanes) {
    _mm512_storeu_ps(out + c, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + c), s), _mm512_loadu_ps(weight + c)));
  }
  const __mmask16 rest = first_lanes(dim - whole);
  const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(rest, x + whole), s);
  _mm512_mask_storeu_ps(out + whole, rest, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(rest, weight + whole)));
}

template <std::size_t rows>
void norm_rows(const RmsNorm& op, std::size_t row) {
  const float* x = op.x + row * op.x_stride;
  const std::size_t whole = op.dim / kLanes * kLanes;
  const __mmask16 rest = first_lanes(op.dim - whole);

  __m512 squares[rows] = {};
  for (std::size_t c = 0; c < whole; c += kLanes) {
#pragma GCC unroll 2
    for (std::size_t r = 0; r < rows; ++r) {
      const __m512 v = _mm512_loadu_ps(x + r * op.x_stride + c);
      squares[r] = _mm512_fmadd_ps(v, v, squares[r]);
    }
  }
#pragma GCC unroll 2
  for (std::size_t r = 0; r < rows; ++r) {
    const __m512 last = _mm512_maskz_loadu_ps(rest, x + r * op.x_stride + whole);
    const float sum = sum_lanes(_mm512_fmadd_ps(last, last, squares[r]));
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

}  // namespace cria::cpu::avx512
