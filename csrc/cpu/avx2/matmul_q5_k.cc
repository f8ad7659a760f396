#include "fifths.h"

namespace cria::cpu::avx2 {
namespace {

struct Q5_K {
  using Superblock = Q5KSuperblock;
  using Scales = SixBitLines<Superblock>;
  static constexpr int kPlanes = 1, kMost = 31, kTogether = 2;

  static __m256i word(const Superblock& superblock, std::size_t pair, int i, int, int g, std::size_t half) {
    const __m256i fifths =
        _mm256_srlv_epi32(load_half(superblock.fifths[g], half), _mm256_set1_epi32(2 * static_cast<int>(pair)));
    const __m256i nibbles = load_half(superblock.nibbles[pair][g], half);
    return i == 0 ? five_bits(nibbles, _mm256_slli_epi16(fifths, 4))
                  : five_bits(_mm256_srli_epi16(nibbles, 4), _mm256_slli_epi16(fifths, 3));
  }
};

}  // namespace

void matmul_q5_k(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q5_K>(op, begin, end); }

}  // namespace cria::cpu::avx2
