#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q8 {
  using Superblock = Q8Superblock;
  static constexpr std::uint32_t kZero = kQ8Zero;

  // Pairs of u8 x s8 products saturate int16, so a weight is taken apart as u = low + 16 high. Each part then sums over
  // the whole block as q4_0's does: 16 products of at most 15 * 127 a lane are 30480, which int16 holds. The last
  // vpmaddwd adds a row's two lanes and multiplies the high part by 16.
  template <int Tokens>
  static inline void dot(const std::uint8_t (&lines)[8][kLine], const std::int8_t* q, std::size_t stride,
                         __m256i (&dot)[Tokens][kHalves]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low_sum[Tokens][kHalves] = {}, high_sum[Tokens][kHalves] = {};
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        const __m256i line = load_half(lines[g], h);
        const __m256i low = _mm256_and_si256(line, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(line, 4), nibble);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          const __m256i words = broadcast_word(q + t * stride + 4 * g);
          low_sum[t][h] = _mm256_add_epi16(low_sum[t][h], _mm256_maddubs_epi16(low, words));
          high_sum[t][h] = _mm256_add_epi16(high_sum[t][h], _mm256_maddubs_epi16(high, words));
          keep_chain(low_sum[t][h]);
          keep_chain(high_sum[t][h]);
        }
      }
    }
    const __m256i one = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        dot[t][h] = _mm256_add_epi32(_mm256_madd_epi16(low_sum[t][h], one), _mm256_madd_epi16(high_sum[t][h], sixteen));
      }
    }
  }
};

}  // namespace

void matmul_q8(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q8>(op, begin, end); }

}  // namespace cria::cpu::avx2
