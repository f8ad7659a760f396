#include <cmath>

#include "../../core/half.h"
#include "finish.h"

namespace cria::cpu::scalar {
namespace {

template <class Element, float (*widen)(Element)>
void matmul(const MatmulF& op, std::size_t begin, std::size_t end) {
  finish_rows(op.weights, op.out, op.tokens, begin, end, [&](std::size_t row, std::size_t token) {
    const Element* weights = panel_values<Element>(op.weights, row / kPanelRows) + row % kPanelRows;
    const float* x = op.x + token * op.x_stride;
    float sum = 0.0f;
    for (std::size_t k = 0; k < op.weights.cols; ++k) sum = std::fma(widen(weights[k * kPanelRows]), x[k], sum);
    return sum;
  });
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
