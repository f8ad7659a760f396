#include "matmul_groups.h"

namespace cria::cpu::avx2 {
namespace {

struct Q6_K {
  using Superblock = Q6KSuperblock;
  static constexpr std::int16_t kZero = 32;
  static constexpr bool kMinimum = false;
  static constexpr int kSafeWords = 2;  // 4 products of at most 63 * 127 are 32004;

  template <int Q>
  [[gnu::always_inline]] static __m256i word(const Superblock& superblock, std::size_t n, int g, std::size_t h) {
    const __m256i nibbles = load_half(superblock.nibbles[n][Q % 2][g], h);
    const __m256i pairs = load_half(superblock.pairs[n][g], h);
    // The two bits of this block, at bits 4 and 5.
    const __m256i placed =
        Q < 2 ? _mm256_slli_epi16(pairs, Q < 2 ? 4 - 2 * Q : 0) : _mm256_srli_epi16(pairs, 2 * Q - 4);
    return _mm256_or_si256(Q < 2 ? low_nibbles(nibbles) : high_nibbles(nibbles),
                           _mm256_and_si256(placed, _mm256_set1_epi8(48)));
  }

  static __m256i scales(const Superblock& superblock, std::size_t word, std::size_t h) {
    return load_half(superblock.scales[word], h);
  }

  static __m256 lead(const Superblock& superblock, std::size_t h) { return load_scales(superblock.scale, h); }
};

}  // namespace

void matmul_q6_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_groups<Q6_K>(op, begin, end); }

}  // namespace cria::cpu::avx2
