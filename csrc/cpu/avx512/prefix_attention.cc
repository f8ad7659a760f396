#include "../prefix_attention.h"

#include <limits>

#include "../exp.h"
#include "tail.h"

namespace cria::cpu::avx512 {
namespace {

float dot(const float* q, const float* k, std::size_t dim) {
  __m512 lanes = _mm512_setzero_ps();
  for (std::size_t d = 0; d < dim; d += kLanes) {
    const __mmask16 there = first_lanes(dim - d);
    lanes = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(there, q + d), _mm512_maskz_loadu_ps(there, k + d), lanes);
  }
  return sum_lanes(lanes);
}

// Turns `n` scores into p, and returns their sum.
float softmax(float* p, std::size_t n) {
  float m = -std::numeric_limits<float>::infinity();
  for (std::size_t j = 0; j < n; ++j) m = p[j] > m ? p[j] : m;
  __m512 lanes = _mm512_setzero_ps();
  for (std::size_t j = 0; j < n; j += kLanes) {
    const __mmask16 there = first_lanes(n - j);
    const __m512 x = exp_f32(_mm512_sub_ps(_mm512_maskz_loadu_ps(there, p + j), _mm512_set1_ps(m)));
    _mm512_mask_storeu_ps(p + j, there, x);
    lanes = _mm512_mask_add_ps(lanes, there, lanes, x);
  }
  return sum_lanes(lanes);
}

}  // namespace

void prefix_attention(const PrefixAttention& op, std::size_t begin, std::size_t end) {
  const std::size_t step = prefix_step(op);
  float p[kMaxPrefix];
  for (std::size_t i = begin; i < end; ++i) {
    const PrefixRow row = prefix_row(op, i);
    for (std::size_t j = 0; j < op.length; ++j) p[j] = dot(row.q, row.keys + j * step, op.head_dim) * op.scale;
    const __m512 w = _mm512_set1_ps(row.gate / softmax(p, op.length));
    for (std::size_t d = 0; d < op.head_dim; d += kLanes) {
      const __mmask16 there = first_lanes(op.head_dim - d);
      __m512 o = _mm512_setzero_ps();
      for (std::size_t j = 0; j < op.length; ++j) {
        o = _mm512_fmadd_ps(_mm512_set1_ps(p[j]), _mm512_maskz_loadu_ps(there, row.values + j * step + d), o);
      }
      const __m512 before = _mm512_maskz_loadu_ps(there, row.out + d);
      _mm512_mask_storeu_ps(row.out + d, there, _mm512_fmadd_ps(w, o, before));
    }
  }
}

}  // namespace cria::cpu::avx512
