#include "matmul_groups.h"

namespace cria::cpu::avx512 {
namespace {

// Byte `at` of each row's word, four times.
__m512i spread(__m512i words, std::size_t at) {
  const __m512i first = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
  return _mm512_shuffle_epi8(words, _mm512_add_epi8(first, _mm512_set1_epi8(static_cast<char>(at))));
}

// A quant, at most 3, times its scale, at most 15, is a byte: products are with these, and both groups of a block share
// one sum.
template <class Format, int Count>
struct ScaledOperands {
  using Superblock = typename Format::Superblock;
  __m512i word[Count][kWords], minimum[Count];
  __m512 lead[Count], lead_minimum[Count];

  static const QuantSums* token_sums(const QuantRows& x) { return x.sums; }

  [[gnu::always_inline]] void open(const Superblock* const (&)[Count]) {}

  [[gnu::always_inline]] void load(const Superblock* const (&superblock)[Count], std::size_t b) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i first = _mm512_set1_epi8(static_cast<char>(1 << b % 4 * 2));
    const __m512i second = _mm512_add_epi8(first, first);
    const std::size_t at = b % 2 * 2;  // of a row's four bytes the first that is this block's
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      const __m512i both = load_words(superblock[p]->scales[b / 2]);
      const __m512i scales = _mm512_and_si512(both, nibble);
      const __m512i once[2] = {spread(scales, at), spread(scales, at + 1)};
      const __m512i twice[2] = {_mm512_add_epi8(once[0], once[0]), _mm512_add_epi8(once[1], once[1])};
#pragma GCC unroll 8
      for (int g = 0; g < kWords; ++g) {
        const __m512i pairs = load_words(superblock[p]->pairs[b / 4][g]);
        const __m512i low = _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(pairs, first), once[g / 4]);
        word[p][g] = _mm512_mask_add_epi8(low, _mm512_test_epi8_mask(pairs, second), low, twice[g / 4]);
      }
      const __m512i minima = _mm512_srl_epi32(_mm512_and_si512(_mm512_srli_epi16(both, 4), nibble),
                                              _mm_cvtsi32_si128(static_cast<int>(8 * at)));
      minimum[p] = _mm512_or_si512(_mm512_and_si512(minima, _mm512_set1_epi32(0xff)),
                                   _mm512_slli_epi32(_mm512_and_si512(minima, _mm512_set1_epi32(0xff00)), 8));
      const __m512i leads = load_words(superblock[p]->lead);
      lead[p] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(leads));
      lead_minimum[p] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(leads, 16)));
    }
  }

  [[gnu::always_inline]] void add(const std::int8_t* q, float x_scale, QuantSums x_sums, __m512 (&sum)[Count]) const {
    const __m512i sums = _mm512_set1_epi32(x_sums);
    const __m512 scale = _mm512_set1_ps(x_scale);
    __m512i dot[Count];
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) dot[p] = _mm512_setzero_si512();
    multiply_words<0, kWords>(word, q, dot);
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      const __m512 least = _mm512_cvtepi32_ps(_mm512_madd_epi16(minimum[p], sums));
      sum[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p]), _mm512_mul_ps(lead[p], scale), sum[p]);
      sum[p] = _mm512_fnmadd_ps(least, _mm512_mul_ps(lead_minimum[p], scale), sum[p]);
    }
  }
};

struct Q2_K {
  using Superblock = Q2KSuperblock;
};

}  // namespace

// One token too: taking blocks apart by halves makes 11 to 13 GB/s on Zen 5 where this makes 12 to 21.
void matmul_q2_k(const MatmulQ& op, std::size_t begin, std::size_t end) { wide<ScaledOperands, Q2_K>(op, begin, end); }

}  // namespace cria::cpu::avx512
