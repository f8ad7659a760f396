#include "../quantize.h"

#include <immintrin.h>

#include <limits>

#include "../quantize_groups.h"
#include "../reduce.h"
#include "fold.h"

namespace cria::cpu::avx512 {
namespace {

constexpr std::size_t kGroup = 16;

__m512 add_floats(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }

__m512 add_integers(__m512 a, __m512 b) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

// Of magnitudes, which as bits compare as integers, with infinity and NaN above every number.
__m512 larger(__m512 a, __m512 b) {
  return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

// Of each block its largest |x|.
[[gnu::always_inline]] inline __m512 largest(const float* x) {
  const auto of_lanes = [x](std::size_t n) {
    const float* block = x + n * kBlock;
    return larger(_mm512_abs_ps(_mm512_loadu_ps(block)), _mm512_abs_ps(_mm512_loadu_ps(block + kLanes)));
  };
  __m512 quarter[4];
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    quarter[i] =
        fold_4(fold_8(of_lanes(i), of_lanes(i + 4), larger), fold_8(of_lanes(i + 8), of_lanes(i + 12), larger), larger);
  }
  return fold_quarters(quarter, larger);
}

// block_scale of each lane.
struct Scales {
  __m512 scale, inverse;
};

Scales block_scales(__m512 largest) {
  const __m512 most = _mm512_set1_ps(std::numeric_limits<float>::max()), top = _mm512_set1_ps(127.0f);
  const __mmask16 finite = _mm512_cmp_ps_mask(largest, most, _CMP_LE_OQ);
  const __mmask16 sound = _mm512_mask_cmp_ps_mask(finite, largest, _mm512_set1_ps(0x1p-119f), _CMP_GE_OQ);
  const __m512 scale = _mm512_maskz_div_ps(sound, largest, top);
  const __m512 nan = _mm512_set1_ps(std::numeric_limits<float>::quiet_NaN());
  return {_mm512_mask_mov_ps(nan, finite, scale), _mm512_maskz_div_ps(sound, top, largest)};
}

// A block's q, and the lanes of its Σ y q.
struct Rounded {
  __m512i q[2];
  __m512 products;
};

[[gnu::always_inline]] inline Rounded round_block(const float* x, float inverse) {
  const __m512 by = _mm512_set1_ps(inverse);
  const __m512 y[2] = {_mm512_mul_ps(_mm512_loadu_ps(x), by), _mm512_mul_ps(_mm512_loadu_ps(x + kLanes), by)};
  const __m512i q[2] = {_mm512_cvtps_epi32(y[0]), _mm512_cvtps_epi32(y[1])};
  const __m512 first = _mm512_mul_ps(y[0], _mm512_cvtepi32_ps(q[0]));
  return {{q[0], q[1]}, _mm512_fmadd_ps(y[1], _mm512_cvtepi32_ps(q[1]), first)};
}

// The quants of two blocks, one after the other.
__m512i narrow(const Rounded& a, const Rounded& b) {
  // The packs work in each quarter of a register: afterwards every fourth group of four stands in order.
  const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a.q[0], a.q[1]), _mm512_packs_epi32(b.q[0], b.q[1]));
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  // -128 is what an infinity or NaN, times the 0 of its block's inverse, turned into: nothing else is below -127.
  const __mmask64 number = _mm512_cmpneq_epi8_mask(bytes, _mm512_set1_epi8(-128));
  return _mm512_permutexvar_epi32(in_order, _mm512_maskz_mov_epi8(number, bytes));
}

// first + 2^16 last as quant_sums has them: without the 1 that a negative first takes of the last.
__m512i joined_sums(__m512i total) {
  return _mm512_add_epi32(total, _mm512_slli_epi32(_mm512_and_si512(total, _mm512_set1_epi32(0x8000)), 1));
}

void quantize_group(const float* x, const QuantRows& out, std::size_t at, std::size_t step) {
  const Scales block = block_scales(largest(x));
  alignas(64) float inverse[kGroup];
  _mm512_store_ps(inverse, block.inverse);

  // Of each block's lanes the last four times 2^16: both its sums are added up at once.
  const __m512i halves = _mm512_setr_epi32(0, 0, 0, 0, 16, 16, 16, 16, 0, 0, 0, 0, 16, 16, 16, 16);
  __m512 products[4], sums[4], squares[4];  // in quarters, see fold.h
#pragma GCC unroll 4
  for (std::size_t i = 0; i < 4; ++i) {
    __m512 pair_products[2], pair_sums[2], pair_squares[2];
#pragma GCC unroll 2
    for (std::size_t half = 0; half < 2; ++half) {
      const std::size_t a = i + 8 * half, b = a + 4;
      const Rounded first = round_block(x + a * kBlock, inverse[a]), second = round_block(x + b * kBlock, inverse[b]);
      const __m512i quants = narrow(first, second), sizes = _mm512_abs_epi8(quants), zero = _mm512_setzero_si512();
      pair_products[half] = fold_8(first.products, second.products, add_floats);
      pair_sums[half] =
          _mm512_castsi512_ps(_mm512_sllv_epi32(_mm512_dpbusd_epi32(zero, _mm512_set1_epi8(1), quants), halves));
      pair_squares[half] = _mm512_castsi512_ps(_mm512_dpbusd_epi32(zero, sizes, sizes));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.quants + (at + a * step) * kBlock),
                          _mm512_castsi512_si256(quants));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.quants + (at + b * step) * kBlock),
                          _mm512_extracti64x4_epi64(quants, 1));
    }
    products[i] = fold_4(pair_products[0], pair_products[1], add_floats);
    sums[i] = fold_4(pair_sums[0], pair_sums[1], add_integers);
    squares[i] = fold_4(pair_squares[0], pair_squares[1], add_integers);
  }

  const __m512i pair = joined_sums(_mm512_castps_si512(fold_quarters(sums, add_integers)));
  const __m512i seed = _mm512_madd_epi16(pair, _mm512_set1_epi16(kSeed));
  const __m512i square = _mm512_castps_si512(fold_quarters(squares, add_integers));
  const __m512 refit = _mm512_div_ps(fold_quarters(products, add_floats), _mm512_cvtepi32_ps(square));
  const __m512 scale = _mm512_mask_mul_ps(block.scale, _mm512_test_epi32_mask(square, square), block.scale, refit);
  if (step == 1) {
    _mm512_storeu_ps(out.scales + at, scale);
    _mm512_storeu_si512(out.seeds + at, seed);
    _mm512_storeu_si512(out.sums + at, pair);
    return;
  }
  alignas(64) float scales[kGroup];
  alignas(64) std::int32_t seeds[kGroup];
  alignas(64) QuantSums pairs[kGroup];
  _mm512_store_ps(scales, scale);
  _mm512_store_si512(seeds, seed);
  _mm512_store_si512(pairs, pair);
  scatter_scales(scales, seeds, pairs, out, at, step);
}

}  // namespace

void quantize(const Quantize& op, std::size_t begin, std::size_t end) {
  quantize_in_groups<kGroup, quantize_group>(op, begin, end);
}

}  // namespace cria::cpu::avx512
