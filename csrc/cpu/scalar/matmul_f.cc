#include <algorithm>
#include <bit>
#include <cmath>

#include "../../core/half.h"
#include "../matmul.h"

namespace cria::cpu::scalar {
namespace {

template <class Element, float (*widen)(Element)>
void matmul(const MatmulF& op, std::size_t begin, std::size_t end) {
  const std::size_t cols = op.weights.cols, last = std::min(end * kPanelRows, op.weights.rows);
  for (std::size_t row = begin * kPanelRows; row < last; ++row) {
    const Element* weights = panel_values<Element>(op.weights, row / kPanelRows) + row % kPanelRows;
    for (std::size_t t = 0; t < op.tokens; ++t) {
      const float* x = op.x + t * op.x_stride;
      float out = 0.0f;
      for (std::size_t k = 0; k < cols; ++k) out = std::fma(widen(weights[k * kPanelRows]), x[k], out);
      op.out[t * op.out_stride + row] = out;
    }
  }
}

float same(float value) { return value; }

}  // namespace

void matmul_f(const MatmulF& op, std::size_t begin, std::size_t end) {
  switch (op.weights.type) {
    case CRIA_TYPE_F32:
      return matmul<float, same>(op, begin, end);
    case CRIA_TYPE_F16:
      return matmul<std::uint16_t, half_to_float>(op, begin, end);
    case CRIA_TYPE_BF16:
      return matmul<std::uint16_t, bf16_to_float>(op, begin, end);
  }
}

}  // namespace cria::cpu::scalar
