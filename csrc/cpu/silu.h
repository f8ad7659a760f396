// silu(g) = g / (1 + exp(-g)), with exp from exp.h, whose clamp makes it about g e^-88 for g below -88; IEEE division.
//
// Static, not inline: see reduce.h.
#pragma once

#include "exp.h"

namespace cria::cpu {

static inline float silu(float g) { return g / (1.0f + exp_f32(-g)); }

#ifdef __AVX2__
static inline __m256 silu(__m256 g) {
  const __m256 negative = _mm256_xor_ps(g, _mm256_set1_ps(-0.0f));
  return _mm256_div_ps(g, _mm256_add_ps(_mm256_set1_ps(1.0f), exp_f32(negative)));
}
#endif

#ifdef __AVX512F__
static inline __m512 silu(__m512 g) {
  const __m512 negative = _mm512_xor_ps(g, _mm512_set1_ps(-0.0f));
  return _mm512_div_ps(g, _mm512_add_ps(_mm512_set1_ps(1.0f), exp_f32(negative)));
}
#endif

}  // namespace cria::cpu
