#include <immintrin.h>

#include "../rope_heads.h"
#include "tail.h"

namespace cria::cpu::avx512 {
namespace {

// Pairs (i, i + pairs), sixteen at a time.
void turn_halves(std::size_t pairs, const float* cosine, const float* sine, float* head) {
  for (std::size_t i = 0; i < pairs; i += kLanes) {
    const __mmask16 lanes = first_lanes(pairs - i);
    const __m512 a = _mm512_maskz_loadu_ps(lanes, head + i), b = _mm512_maskz_loadu_ps(lanes, head + pairs + i);
    const __m512 cos = _mm512_maskz_loadu_ps(lanes, cosine + i), sin = _mm512_maskz_loadu_ps(lanes, sine + i);
    _mm512_mask_storeu_ps(head + i, lanes, _mm512_fmsub_ps(a, cos, _mm512_mul_ps(b, sin)));
    _mm512_mask_storeu_ps(head + pairs + i, lanes, _mm512_fmadd_ps(a, sin, _mm512_mul_ps(b, cos)));
  }
}

// Pairs (2i, 2i + 1), eight at a time: fma(a, (cos, sin), b (-sin, cos)), the sign being fmaddsub's.
void turn_adjacent(std::size_t pairs, const float* cosine, const float* sine, float* head) {
  constexpr std::size_t kPairs = kLanes / 2;
  const __m512i interleave = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  for (std::size_t i = 0; i < pairs; i += kPairs) {
    const __mmask16 lanes = first_lanes(2 * (pairs - i));
    const __mmask8 angles = static_cast<__mmask8>(first_lanes(pairs - i));
    const __m512 cos = _mm512_castps256_ps512(_mm256_maskz_loadu_ps(angles, cosine + i));
    const __m512 sin = _mm512_castps256_ps512(_mm256_maskz_loadu_ps(angles, sine + i));
    const __m512 turn = _mm512_permutex2var_ps(cos, interleave, sin);
    const __m512 x = _mm512_maskz_loadu_ps(lanes, head + 2 * i);
    const __m512 b = _mm512_mul_ps(_mm512_movehdup_ps(x), _mm512_permute_ps(turn, _MM_SHUFFLE(2, 3, 0, 1)));
    _mm512_mask_storeu_ps(head + 2 * i, lanes, _mm512_fmaddsub_ps(_mm512_moveldup_ps(x), turn, b));
  }
}

__m256i narrow(const float* x, __mmask16 lanes) {
  return _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes, x), _MM_FROUND_TO_NEAREST_INT);
}

// A head's k goes to a column of its K block, 16 elements apart; its v to a row of its V block.
struct Write {
  static void key(const float* k, std::size_t dim, float* out) {
    for (std::size_t d = 0; d < dim; ++d) out[d * kKvBlock] = k[d];
  }
  static void key(const float* k, std::size_t dim, std::uint16_t* out) {
    for (std::size_t d = 0; d < dim; d += kLanes) {
      alignas(32) std::uint16_t half[kLanes];
      _mm256_store_si256(reinterpret_cast<__m256i*>(half), narrow(k + d, first_lanes(dim - d)));
      for (std::size_t i = 0; i < kLanes && d + i < dim; ++i) out[(d + i) * kKvBlock] = half[i];
    }
  }

  static void value(const float* v, std::size_t dim, float* out) {
    for (std::size_t d = 0; d < dim; d += kLanes) {
      const __mmask16 lanes = first_lanes(dim - d);
      _mm512_mask_storeu_ps(out + d, lanes, _mm512_maskz_loadu_ps(lanes, v + d));
    }
  }
  static void value(const float* v, std::size_t dim, std::uint16_t* out) {
    for (std::size_t d = 0; d < dim; d += kLanes) {
      const __mmask16 lanes = first_lanes(dim - d);
      _mm256_mask_storeu_epi16(out + d, lanes, narrow(v + d, lanes));
    }
  }
};

}  // namespace

void rope(const Rope& op, std::size_t begin, std::size_t end) {
  rope_heads<Write>(op, begin, end, op.halves ? turn_halves : turn_adjacent);
}

}  // namespace cria::cpu::avx512
