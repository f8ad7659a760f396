#include "../quantize.h"

#include <immintrin.h>

#include <algorithm>
#include <bit>

#include "../../core/weights.h"
#include "../reduce.h"

namespace cria::cpu::avx2 {
namespace {

// The largest |x|. As bits, magnitudes compare as integers, with infinity and NaN above every number.
float largest(const __m256 (&x)[4]) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256i bits = _mm256_setzero_si256();
  for (__m256 part : x) bits = _mm256_max_epu32(bits, _mm256_castps_si256(_mm256_and_ps(part, magnitude)));
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, _MM_SHUFFLE(1, 0, 3, 2)));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, _MM_SHUFFLE(2, 3, 0, 1)));
  return std::bit_cast<float>(_mm_cvtsi128_si32(most));
}

std::int32_t add_up(__m256i lanes) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, _MM_SHUFFLE(1, 0, 3, 2)));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(sum);
}

// Σ y q / Σ q q, of a block in which some q is not 0.
float refit(const __m256 (&y)[4], const __m256i (&q)[4]) {
  __m256 products[2];
  __m256i squares = _mm256_setzero_si256();
  for (int half = 0; half < 2; ++half) {
    const __m256 first = _mm256_mul_ps(y[half], _mm256_cvtepi32_ps(q[half]));
    products[half] = _mm256_fmadd_ps(y[half + 2], _mm256_cvtepi32_ps(q[half + 2]), first);
  }
  for (const __m256i part : q) squares = _mm256_add_epi32(squares, _mm256_mullo_epi32(part, part));
  return sum_lanes(products[0], products[1]) / static_cast<float>(add_up(squares));
}

void quantize_block(const float* from, std::int8_t* quants, float* scale, std::int32_t* sum) {
  __m256 x[4];
  for (int i = 0; i < 4; ++i) x[i] = _mm256_loadu_ps(from + 8 * i);

  const BlockScale block = block_scale(largest(x));
  *scale = block.scale;
  __m256i q[4] = {};
  if (block.inverse != 0.0f) {
    const __m256 inverse = _mm256_set1_ps(block.inverse);
    for (int i = 0; i < 4; ++i) {
      x[i] = _mm256_mul_ps(x[i], inverse);
      q[i] = _mm256_cvtps_epi32(x[i]);
    }
    *scale *= refit(x, q);
  }
  *sum = add_up(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3])));

  // The packs work in each half of a register: afterwards every fourth group of four stands in order.
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(quants), _mm256_permutevar8x32_epi32(bytes, in_order));
}

}  // namespace

void quantize(const Quantize& op, std::size_t begin, std::size_t end) {
  const QuantRows& out = op.out;
  const std::size_t whole = op.dim / kBlock;
  for (std::size_t row = begin; row < end; ++row) {
    const float* x = op.x + row * op.x_stride;
    const auto quantize_to = [&](const float* from, std::size_t b) {
      const std::size_t at = out.at(row, b);
      quantize_block(from, out.block(row, b), &out.scales[at], &out.sums[at]);
    };

    for (std::size_t b = 0; b < whole; ++b) quantize_to(x + b * kBlock, b);
    for (std::size_t b = whole; b < out.blocks; ++b) {
      float padded[kBlock] = {};
      if (b == whole) std::copy(x + whole * kBlock, x + op.dim, padded);
      quantize_to(padded, b);
    }
  }
}

}  // namespace cria::cpu::avx2
