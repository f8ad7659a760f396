#include "matmul_groups.h"

namespace cria::cpu::avx2 {
namespace {

struct Q2_K {
  using Superblock = Q2KSuperblock;
  static constexpr std::int16_t kZero = 0;
  static constexpr bool kMinimum = true;
  static constexpr int kSafeWords = kGroupWords;

  template <int Q>
  [[gnu::always_inline]] static __m256i word(const Superblock& superblock, std::size_t n, int g, std::size_t h) {
    return _mm256_and_si256(_mm256_srli_epi16(load_half(superblock.pairs[n][g], h), 2 * Q), _mm256_set1_epi8(3));
  }

  static __m256i scales(const Superblock& superblock, std::size_t word, std::size_t h) {
    return low_nibbles(load_half(superblock.scales[word], h));
  }
  static __m256i minima(const Superblock& superblock, std::size_t word, std::size_t h) {
    return high_nibbles(load_half(superblock.scales[word], h));
  }

  static __m256 lead(const Superblock& superblock, std::size_t h) {
    return widen_low_halves(load_half(superblock.lead, h));
  }
  static __m256 lead_minimum(const Superblock& superblock, std::size_t h) {
    return widen_low_halves(_mm256_srli_epi32(load_half(superblock.lead, h), 16));
  }

  // The lower binary16 of each word.
  static __m256 widen_low_halves(__m256i words) {
    const __m256i halves = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(halves, halves), 0xd8);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }
};

}  // namespace

void matmul_q2_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q2_K>(op, begin, end); }

}  // namespace cria::cpu::avx2
