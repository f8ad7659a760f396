#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  static constexpr std::uint32_t kZero = kQ4Zero;

  // A row's four products of a line go to two int16 lanes; over the block each takes 16, at most 16 * 15 * 127 = 30480
  // in magnitude, so int16 holds them, and one vpmaddwd adds the two.
  template <int Tokens>
  static inline void dot(const std::uint8_t (&lines)[4][kLine], const std::int8_t* q, std::size_t stride,
                         __m256i (&dot)[Tokens][kHalves]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i sum[Tokens][kHalves] = {};
#pragma GCC unroll 4
    for (int g = 0; g < 4; ++g) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        const __m256i line = load_half(lines[g], h);
        const __m256i low = _mm256_and_si256(line, nibble);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(line, 4), nibble);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) {
          const std::int8_t* words = q + t * stride + 4 * g;
          sum[t][h] = _mm256_add_epi16(sum[t][h], _mm256_maddubs_epi16(low, broadcast_word(words)));
          sum[t][h] = _mm256_add_epi16(sum[t][h], _mm256_maddubs_epi16(high, broadcast_word(words + kBlock / 2)));
          keep_chain(sum[t][h]);
        }
      }
    }
    const __m256i one = _mm256_set1_epi16(1);
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) dot[t][h] = _mm256_madd_epi16(sum[t][h], one);
    }
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4>(op, begin, end); }

}  // namespace cria::cpu::avx2
