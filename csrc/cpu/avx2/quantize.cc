#include "../quantize.h"

#include <immintrin.h>

#include <limits>

#include "../quantize_block.h"
#include "../quantize_groups.h"
#include "../reduce.h"
#include "fold.h"

namespace cria::cpu::avx2 {
namespace {

constexpr std::size_t kGroup = 8;

__m256 add_floats(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }

__m256 add_integers(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

// Of magnitudes, which as bits compare as integers, with infinity and NaN above every number.
__m256 larger(__m256 a, __m256 b) {
  return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}

// Of each block its largest |x|.
[[gnu::always_inline]] inline __m256 largest(const float* x) {
  const auto magnitude = [](const float* part) {
    return _mm256_and_ps(_mm256_loadu_ps(part), _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
  };
  const auto of_lanes = [x, magnitude](std::size_t n) {
    const float* block = x + n * kBlock;
    return larger(larger(magnitude(block), magnitude(block + 8)), larger(magnitude(block + 16), magnitude(block + 24)));
  };
  __m256 quarter[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) quarter[i] = fold_4(of_lanes(i), of_lanes(i + 4), larger);
  return fold_quarters(quarter, larger);
}

// block_scale of each lane.
struct Scales {
  __m256 scale, inverse;
};

Scales block_scales(__m256 largest) {
  const __m256 most = _mm256_set1_ps(std::numeric_limits<float>::max()), top = _mm256_set1_ps(127.0f);
  const __m256 finite = _mm256_cmp_ps(largest, most, _CMP_LE_OQ);
  const __m256 sound = _mm256_and_ps(finite, _mm256_cmp_ps(largest, _mm256_set1_ps(0x1p-119f), _CMP_GE_OQ));
  const __m256 scale = _mm256_and_ps(sound, _mm256_div_ps(largest, top));
  const __m256 nan = _mm256_set1_ps(std::numeric_limits<float>::quiet_NaN());
  return {_mm256_blendv_ps(nan, scale, finite), _mm256_and_ps(sound, _mm256_div_ps(top, largest))};
}

// A block's quants, and the lanes of what is to be added up: Σ y q, and as integers Σ q, of the last 16 times 2^16, and
// Σ q q.
struct Rounded {
  __m256i quants;
  __m256 products, sums, squares;
};

[[gnu::always_inline]] inline Rounded round_block(const float* x, float inverse) {
  const __m256 by = _mm256_set1_ps(inverse);
  __m256 y[4], whole[4];
  __m256i q[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    y[i] = _mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), by);
    q[i] = _mm256_cvtps_epi32(y[i]);
    whole[i] = _mm256_cvtepi32_ps(q[i]);
  }
  const __m256 low = _mm256_fmadd_ps(y[2], whole[2], _mm256_mul_ps(y[0], whole[0]));
  const __m256 high = _mm256_fmadd_ps(y[3], whole[3], _mm256_mul_ps(y[1], whole[1]));

  const __m256i quants = narrow_quants(q), sizes = _mm256_abs_epi8(quants), ones = _mm256_set1_epi16(1);
  const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 16, 16, 16, 16);
  const __m256i sums =
      _mm256_sllv_epi32(_mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), quants), ones), halves);
  const __m256i squares = _mm256_madd_epi16(_mm256_maddubs_epi16(sizes, sizes), ones);  // 2 * 127^2 fits 16 bits
  return {quants, _mm256_add_ps(low, high), _mm256_castsi256_ps(sums), _mm256_castsi256_ps(squares)};
}

// first + 2^16 last as quant_sums has them: without the 1 that a negative first takes of the last.
__m256i joined_sums(__m256i total) {
  return _mm256_add_epi32(total, _mm256_slli_epi32(_mm256_and_si256(total, _mm256_set1_epi32(0x8000)), 1));
}

void quantize_group(const float* x, const QuantRows& out, std::size_t at, std::size_t step) {
  const Scales block = block_scales(largest(x));
  alignas(32) float inverse[kGroup];
  _mm256_store_ps(inverse, block.inverse);

  __m256 products[4], sums[4], squares[4];  // in quarters, see fold.h
#pragma GCC unroll 4
  for (std::size_t a = 0; a < 4; ++a) {
    const std::size_t b = a + 4;
    const Rounded first = round_block(x + a * kBlock, inverse[a]), second = round_block(x + b * kBlock, inverse[b]);
    products[a] = fold_4(first.products, second.products, add_floats);
    sums[a] = fold_4(first.sums, second.sums, add_integers);
    squares[a] = fold_4(first.squares, second.squares, add_integers);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.quants + (at + a * step) * kBlock), first.quants);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.quants + (at + b * step) * kBlock), second.quants);
  }

  const __m256i pair = joined_sums(_mm256_castps_si256(fold_quarters(sums, add_integers)));
  const __m256i seed = _mm256_madd_epi16(pair, _mm256_set1_epi16(kSeed));
  const __m256 square = _mm256_cvtepi32_ps(_mm256_castps_si256(fold_quarters(squares, add_integers)));
  const __m256 refit = _mm256_div_ps(fold_quarters(products, add_floats), square);
  const __m256 zeros = _mm256_cmp_ps(square, _mm256_setzero_ps(), _CMP_EQ_OQ);
  const __m256 scale = _mm256_blendv_ps(_mm256_mul_ps(block.scale, refit), block.scale, zeros);
  if (step == 1) {
    _mm256_storeu_ps(out.scales + at, scale);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.seeds + at), seed);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.sums + at), pair);
    return;
  }
  alignas(32) float scales[kGroup];
  alignas(32) std::int32_t seeds[kGroup];
  alignas(32) QuantSums pairs[kGroup];
  _mm256_store_ps(scales, scale);
  _mm256_store_si256(reinterpret_cast<__m256i*>(seeds), seed);
  _mm256_store_si256(reinterpret_cast<__m256i*>(pairs), pair);
  scatter_scales(scales, seeds, pairs, out, at, step);
}

}  // namespace

void quantize(const Quantize& op, std::size_t begin, std::size_t end) {
  quantize_in_groups<kGroup, quantize_group>(op, begin, end);
}

}  // namespace cria::cpu::avx2
