#include "../prefix_attention.h"

#include <immintrin.h>

#include <limits>

#include "../exp.h"
#include "../reduce.h"
#include "tail.h"

namespace cria::cpu::avx2 {
namespace {

float dot(const float* q, const float* k, std::size_t dim) {
  __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
  std::size_t d = 0;
  for (; d + kLanes <= dim; d += kLanes) {
    low = _mm256_fmadd_ps(_mm256_loadu_ps(q + d), _mm256_loadu_ps(k + d), low);
    high = _mm256_fmadd_ps(_mm256_loadu_ps(q + d + 8), _mm256_loadu_ps(k + d + 8), high);
  }
  if (d < dim) low = _mm256_fmadd_ps(_mm256_loadu_ps(q + d), _mm256_loadu_ps(k + d), low);
  return sum_lanes(low, high);
}

// Turns `n` scores, in a place for a multiple of 16, into p, and returns their sum.
float softmax(float* p, std::size_t n) {
  float m = -std::numeric_limits<float>::infinity();
  for (std::size_t j = 0; j < n; ++j) m = p[j] > m ? p[j] : m;
  const __m256 most = _mm256_set1_ps(m);
  __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
  for (std::size_t j = 0; j < n; j += kLanes) {
    __m256 x[] = {_mm256_sub_ps(_mm256_loadu_ps(p + j), most), _mm256_sub_ps(_mm256_loadu_ps(p + j + 8), most)};
    exp_f32(x);
    _mm256_storeu_ps(p + j, x[0]);
    _mm256_storeu_ps(p + j + 8, x[1]);
    const Tail tail(n - j < kLanes ? n - j : kLanes);
    low = _mm256_add_ps(low, tail.load_low(p + j));
    high = _mm256_add_ps(high, tail.load_high(p + j));
  }
  return sum_lanes(low, high);
}

}  // namespace

void prefix_attention(const PrefixAttention& op, std::size_t begin, std::size_t end) {
  const std::size_t step = prefix_step(op);
  float p[kMaxPrefix] = {};
  for (std::size_t i = begin; i < end; ++i) {
    const PrefixRow row = prefix_row(op, i);
    for (std::size_t j = 0; j < op.length; ++j) p[j] = dot(row.q, row.keys + j * step, op.head_dim) * op.scale;
    const __m256 w = _mm256_set1_ps(row.gate / softmax(p, op.length));
    for (std::size_t d = 0; d < op.head_dim; d += 8) {
      __m256 o = _mm256_setzero_ps();
      for (std::size_t j = 0; j < op.length; ++j) {
        o = _mm256_fmadd_ps(_mm256_broadcast_ss(p + j), _mm256_loadu_ps(row.values + j * step + d), o);
      }
      _mm256_storeu_ps(row.out + d, _mm256_fmadd_ps(w, o, _mm256_loadu_ps(row.out + d)));
    }
  }
}

}  // namespace cria::cpu::avx2
