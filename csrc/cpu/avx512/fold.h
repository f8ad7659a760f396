// Sixteen vectors of sixteen lanes to one, of which lane n is vector n folded in the order of reduce.h: what one vector
// takes in four steps, the last on a single lane, sixteen take in fifteen on all.
//
//     fold_8          two vectors    a: j with j + 8    a0 ... a7          b0 ... b7
//     fold_4          two of those   a: j with j + 4    a0 ... a3  b0 ... b3  c0 ... c3  d0 ... d3
//     fold_quarters   two of those   a: j with j + 2    a0 a1 e0 e1  b0 b1 f0 f1  c0 c1 g0 g1  d0 d1 h0 h1
//                     two of those   a: 0 with 1        a  e  i  m   b  f  j  n   c  g  k  o   d  h  l  p
//
// So a to d are vectors 0, 4, 8 and 12, then come 1, 5, 9 and 13: quarter i is vectors i, i + 4, i + 8 and i + 12. `op`
// is the sum or the maximum, of two __m512.
#pragma once

#include <immintrin.h>

namespace cria::cpu::avx512 {

template <class Op>
static inline __m512 fold_8(__m512 a, __m512 b, Op op) {
  return op(_mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(1, 0, 1, 0)), _mm512_shuffle_f32x4(a, b, _MM_SHUFFLE(3, 2, 3, 2)));
}

template <class Op>
static inline __m512 fold_4(__m512 a, __m512 c, Op op) {
  return op(_mm512_shuffle_f32x4(a, c, _MM_SHUFFLE(2, 0, 2, 0)), _mm512_shuffle_f32x4(a, c, _MM_SHUFFLE(3, 1, 3, 1)));
}

// Of the four quarters, each as fold_4 leaves it.
template <class Op>
static inline __m512 fold_quarters(const __m512 (&quarter)[4], Op op) {
  const auto fold_2 = [op](__m512 a, __m512 e) {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(e);
    return op(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  };
  const __m512 a = fold_2(quarter[0], quarter[1]), i = fold_2(quarter[2], quarter[3]);
  return op(_mm512_shuffle_ps(a, i, _MM_SHUFFLE(2, 0, 2, 0)), _mm512_shuffle_ps(a, i, _MM_SHUFFLE(3, 1, 3, 1)));
}

}  // namespace cria::cpu::avx512
