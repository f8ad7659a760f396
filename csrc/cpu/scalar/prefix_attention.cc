#include "../prefix_attention.h"

#include <cmath>
#include <limits>

#include "../exp.h"
#include "../reduce.h"

namespace cria::cpu::scalar {
namespace {

float dot(const float* q, const float* k, std::size_t dim) {
  float lane[kLanes] = {};
  for (std::size_t d = 0; d < dim; ++d) lane[d % kLanes] = std::fma(q[d], k[d], lane[d % kLanes]);
  return sum_lanes(lane);
}

// Turns `n` scores into p, and returns their sum.
float softmax(float* p, std::size_t n) {
  float m = -std::numeric_limits<float>::infinity();
  for (std::size_t j = 0; j < n; ++j) m = p[j] > m ? p[j] : m;
  float lane[kLanes] = {};
  for (std::size_t j = 0; j < n; ++j) {
    p[j] = exp_f32(p[j] - m);
    lane[j % kLanes] += p[j];
  }
  return sum_lanes(lane);
}

}  // namespace

void prefix_attention(const PrefixAttention& op, std::size_t begin, std::size_t end) {
  const std::size_t step = prefix_step(op);
  float p[kMaxPrefix];
  for (std::size_t i = begin; i < end; ++i) {
    const PrefixRow row = prefix_row(op, i);
    for (std::size_t j = 0; j < op.length; ++j) p[j] = dot(row.q, row.keys + j * step, op.head_dim) * op.scale;
    const float w = row.gate / softmax(p, op.length);
    for (std::size_t d = 0; d < op.head_dim; ++d) {
      float o = 0.0f;
      for (std::size_t j = 0; j < op.length; ++j) o = std::fma(p[j], row.values[j * step + d], o);
      row.out[d] = std::fma(w, o, row.out[d]);
    }
  }
}

}  // namespace cria::cpu::scalar
