// exp, the one that every kernel of cria uses, so that every instruction set gives the same bits.
//
//     x is clamped to [kExpLow, kExpHigh]; NaN stays NaN
//     n = x / ln 2 to the nearest integer, r = x - n ln 2 in two steps (Cody and Waite 1980), so |r| <= 0.347
//     exp(x) = 2^n (1 + r + r^2 q(r)),  q of degree 5, with the coefficients of Moshier's Cephes (expf.c)
//
// exp(0) is exactly 1, so a softmax whose maximum stands still rescales by 1. Largest relative error, over every float
// in [kExpLow, kExpHigh]: 8.5e-8, or 1.42 * 2^-24.
//
// Static, not inline: see reduce.h.
#pragma once

#include <immintrin.h>

#include <bit>
#include <cmath>
#include <cstdint>

namespace cria::cpu {

// Between these 2^n is a normal number, so it is made by shifting n into the exponent.
constexpr float kExpLow = -87.0f, kExpHigh = 88.0f;

constexpr float kLog2E = 0x1.715476p+0f;
// ln 2 in two parts: the first has 9 significant bits, so n times it is exact for every n that occurs.
constexpr float kLn2High = 0x1.63p-1f, kLn2Low = -0x1.bd0106p-13f;
// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves it in the low bits between.
constexpr float kRound = 0x1.8p+23f;
constexpr float kExpQ[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                           4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};

static inline float exp_f32(float x) {
  x = kExpLow > x ? kExpLow : x;  // as maxps and minps, which keep the second operand when one is NaN
  x = kExpHigh < x ? kExpHigh : x;
  const float shifted = std::fma(x, kLog2E, kRound);
  const float n = shifted - kRound;
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float q = kExpQ[0];
  for (int i = 1; i < 6; ++i) q = std::fma(q, r, kExpQ[i]);
  const float p = std::fma(q, r * r, r) + 1.0f;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(power);
}

// Several registers at once, step by step: a step waits four cycles for the one before, and the processor's schedulers
// do not reach over the many steps to the next register's.
template <int N, class Step>
[[gnu::always_inline]] static inline void each(Step step) {
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) step(i);
}

#ifdef __AVX2__
template <int N>
static inline void exp_f32(__m256 (&x)[N]) {
  const auto all = [](float value) { return _mm256_set1_ps(value); };
  __m256 n[N], r[N], q[N];
  __m256i power[N];
  each<N>([&](int i) { x[i] = _mm256_min_ps(all(kExpHigh), _mm256_max_ps(all(kExpLow), x[i])); });
  each<N>([&](int i) { n[i] = _mm256_fmadd_ps(x[i], all(kLog2E), all(kRound)); });
  each<N>([&](int i) {
    power[i] = _mm256_slli_epi32(_mm256_add_epi32(_mm256_castps_si256(n[i]), _mm256_set1_epi32(127)), 23);
  });
  each<N>([&](int i) { n[i] = _mm256_sub_ps(n[i], all(kRound)); });
  each<N>([&](int i) { r[i] = _mm256_fmadd_ps(n[i], all(-kLn2High), x[i]); });
  each<N>([&](int i) { r[i] = _mm256_fmadd_ps(n[i], all(-kLn2Low), r[i]); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(all(kExpQ[0]), r[i], all(kExpQ[1])); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(q[i], r[i], all(kExpQ[2])); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(q[i], r[i], all(kExpQ[3])); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(q[i], r[i], all(kExpQ[4])); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(q[i], r[i], all(kExpQ[5])); });
  each<N>([&](int i) { q[i] = _mm256_fmadd_ps(q[i], _mm256_mul_ps(r[i], r[i]), r[i]); });
  each<N>([&](int i) { x[i] = _mm256_mul_ps(_mm256_add_ps(q[i], all(1.0f)), _mm256_castsi256_ps(power[i])); });
}

static inline __m256 exp_f32(__m256 x) {
  __m256 one[] = {x};
  exp_f32(one);
  return one[0];
}
#endif

#ifdef __AVX512F__
template <int N>
static inline void exp_f32(__m512 (&x)[N]) {
  const auto all = [](float value) { return _mm512_set1_ps(value); };
  __m512 n[N], r[N], q[N];
  each<N>([&](int i) { x[i] = _mm512_min_ps(all(kExpHigh), _mm512_max_ps(all(kExpLow), x[i])); });
  each<N>([&](int i) { n[i] = _mm512_fmadd_ps(x[i], all(kLog2E), all(kRound)); });
  each<N>([&](int i) { n[i] = _mm512_sub_ps(n[i], all(kRound)); });
  each<N>([&](int i) { r[i] = _mm512_fmadd_ps(n[i], all(-kLn2High), x[i]); });
  each<N>([&](int i) { r[i] = _mm512_fmadd_ps(n[i], all(-kLn2Low), r[i]); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(all(kExpQ[0]), r[i], all(kExpQ[1])); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(q[i], r[i], all(kExpQ[2])); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(q[i], r[i], all(kExpQ[3])); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(q[i], r[i], all(kExpQ[4])); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(q[i], r[i], all(kExpQ[5])); });
  each<N>([&](int i) { q[i] = _mm512_fmadd_ps(q[i], _mm512_mul_ps(r[i], r[i]), r[i]); });
  // Times 2^n, which is a normal number, so nothing is rounded.
  each<N>([&](int i) { x[i] = _mm512_scalef_ps(_mm512_add_ps(q[i], all(1.0f)), n[i]); });
}

static inline __m512 exp_f32(__m512 x) {
  __m512 one[] = {x};
  exp_f32(one);
  return one[0];
}
#endif

}  // namespace cria::cpu
