// Eight vectors of eight lanes to one, of which lane n is vector n folded in the order of reduce.h: what one vector
// takes in three steps, the last on a single lane, eight take in seven on all.
//
//     fold_4          two vectors    a: j with j + 4    a0 ... a3    b0 ... b3
//     fold_quarters   two of those   a: j with j + 2    a0 a1 c0 c1  b0 b1 d0 d1
//                     two of those   a: 0 with 1        a  c  e  g   b  d  f  h
//
// So a and b are vectors 0 and 4, then come 1 and 5: quarter i is vectors i and i + 4. `op` is the sum or the maximum,
// of two __m256.
#pragma once

#include <immintrin.h>

namespace cria::cpu::avx2 {

template <class Op>
static inline __m256 fold_4(__m256 a, __m256 b, Op op) {
  return op(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

// Of the four quarters, each as fold_4 leaves it.
template <class Op>
static inline __m256 fold_quarters(const __m256 (&quarter)[4], Op op) {
  const auto fold_2 = [op](__m256 a, __m256 c) {
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(c);
    return op(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)), _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
  };
  const __m256 a = fold_2(quarter[0], quarter[1]), e = fold_2(quarter[2], quarter[3]);
  return op(_mm256_shuffle_ps(a, e, _MM_SHUFFLE(2, 0, 2, 0)), _mm256_shuffle_ps(a, e, _MM_SHUFFLE(3, 1, 3, 1)));
}

}  // namespace cria::cpu::avx2
