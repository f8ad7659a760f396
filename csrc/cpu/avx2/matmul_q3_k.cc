#include "matmul_groups.h"

namespace cria::cpu::avx2 {
namespace {

struct Q3_K {
  using Superblock = Q3KSuperblock;
  static constexpr std::int16_t kZero = 4;
  static constexpr bool kMinimum = false;
  static constexpr int kSafeWords = kGroupWords;

  template <int Q>
  [[gnu::always_inline]] static __m256i word(const Superblock& superblock, std::size_t n, int g, std::size_t h) {
    const __m256i pairs = _mm256_srli_epi16(load_half(superblock.pairs[n][g], h), 2 * Q);
    // The third bit is that of block 4n + Q, to bit 2.
    const __m256i thirds = load_half(superblock.thirds[g], h);
    const __m256i high = n == 0 ? place_third<Q>(thirds) : place_third<Q + kQuarter>(thirds);
    return _mm256_or_si256(_mm256_and_si256(pairs, _mm256_set1_epi8(3)), _mm256_and_si256(high, _mm256_set1_epi8(4)));
  }
  template <int bit>
  static __m256i place_third(__m256i thirds) {
    return bit < 2 ? _mm256_slli_epi16(thirds, bit < 2 ? 2 - bit : 0) : _mm256_srli_epi16(thirds, bit - 2);
  }

  // The four scales of a word, of 6 bits: decode.cc says where each stands.
  static __m256i scales(const Superblock& superblock, std::size_t word, std::size_t h) {
    const int shift = static_cast<int>(word);
    const __m256i low = _mm256_srl_epi32(load_half(superblock.scales[word % 2], h), _mm_cvtsi32_si128(shift / 2 * 4));
    const __m256i high = _mm256_srl_epi32(load_half(superblock.scales[2], h), _mm_cvtsi32_si128(shift * 2));
    const __m256i six = _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi8(15)),
                                        _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4));
    return _mm256_sub_epi8(six, _mm256_set1_epi8(32));
  }

  static __m256 lead(const Superblock& superblock, std::size_t h) { return load_scales(superblock.scale, h); }
};

}  // namespace

void matmul_q3_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q3_K>(op, begin, end); }

}  // namespace cria::cpu::avx2
