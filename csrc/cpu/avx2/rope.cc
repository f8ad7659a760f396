#include <immintrin.h>

#include <cmath>

#include "../rope_heads.h"

namespace cria::cpu::avx2 {
namespace {

void turn_pair(float cosine, float sine, float& first, float& second) {
  const float a = first, b = second;
  first = std::fma(a, cosine, -(b * sine));
  second = std::fma(a, sine, b * cosine);
}

// Pairs (i, i + pairs), eight at a time.
void turn_halves(std::size_t pairs, const float* cosine, const float* sine, float* head) {
  std::size_t i = 0;
  for (; i + 8 <= pairs; i += 8) {
    const __m256 a = _mm256_loadu_ps(head + i), b = _mm256_loadu_ps(head + pairs + i);
    const __m256 cos = _mm256_loadu_ps(cosine + i), sin = _mm256_loadu_ps(sine + i);
    _mm256_storeu_ps(head + i, _mm256_fmsub_ps(a, cos, _mm256_mul_ps(b, sin)));
    _mm256_storeu_ps(head + pairs + i, _mm256_fmadd_ps(a, sin, _mm256_mul_ps(b, cos)));
  }
  for (; i < pairs; ++i) turn_pair(cosine[i], sine[i], head[i], head[pairs + i]);
}

// Even lanes from `x`, odd lanes from `y`: x0 y0 x1 y1 x2 y2 x3 y3.
__m256 interleave(__m128 x, __m128 y) { return _mm256_set_m128(_mm_unpackhi_ps(x, y), _mm_unpacklo_ps(x, y)); }

// Pairs (2i, 2i + 1), four at a time. Both lanes of a pair are fma(a, to_a, b * to_b): to_a is (cos, sin), to_b is
// (-sin, cos), and b * -sin is -(b sin), bit for bit.
void turn_adjacent(std::size_t pairs, const float* cosine, const float* sine, float* head) {
  std::size_t i = 0;
  for (; i + 4 <= pairs; i += 4) {
    const __m256 x = _mm256_loadu_ps(head + 2 * i);
    const __m256 a = _mm256_moveldup_ps(x), b = _mm256_movehdup_ps(x);
    const __m128 cos = _mm_loadu_ps(cosine + i), sin = _mm_loadu_ps(sine + i);
    const __m256 to_a = interleave(cos, sin);
    const __m256 to_b = interleave(_mm_xor_ps(sin, _mm_set1_ps(-0.0f)), cos);
    _mm256_storeu_ps(head + 2 * i, _mm256_fmadd_ps(a, to_a, _mm256_mul_ps(b, to_b)));
  }
  for (; i < pairs; ++i) turn_pair(cosine[i], sine[i], head[2 * i], head[2 * i + 1]);
}

__m128i narrow(const float* x) { return _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT); }

// A head's k goes to a column of its K block, 16 elements apart; its v to a row of its V block. `dim` is a multiple
// of 8.
struct Write {
  static void key(const float* k, std::size_t dim, float* out) {
    for (std::size_t d = 0; d < dim; ++d) out[d * kKvBlock] = k[d];
  }
  static void key(const float* k, std::size_t dim, std::uint16_t* out) {
    for (std::size_t d = 0; d < dim; d += 8) {
      alignas(16) std::uint16_t half[8];
      _mm_store_si128(reinterpret_cast<__m128i*>(half), narrow(k + d));
      for (std::size_t i = 0; i < 8; ++i) out[(d + i) * kKvBlock] = half[i];
    }
  }

  static void value(const float* v, std::size_t dim, float* out) {
    for (std::size_t d = 0; d < dim; d += 8) _mm256_storeu_ps(out + d, _mm256_loadu_ps(v + d));
  }
  static void value(const float* v, std::size_t dim, std::uint16_t* out) {
    for (std::size_t d = 0; d < dim; d += 8) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + d), narrow(v + d));
  }
};

}  // namespace

void rope(const Rope& op, std::size_t begin, std::size_t end) {
  rope_heads<Write>(op, begin, end, op.halves ? turn_halves : turn_adjacent);
}

}  // namespace cria::cpu::avx2
