#include "fifths.h"

namespace cria::cpu::avx2 {
namespace {

struct Q5_1 {
  using Superblock = Q5_1Superblock;
  using Scales = LeadLines<Superblock>;
  static constexpr int kPlanes = 1, kMost = 31, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t, int, int, int g, std::size_t half) {
    return word_of_five(superblock.fifths, superblock.nibbles, g, half);
  }
};

}  // namespace

void matmul_q5_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q5_1>(op, begin, end); }

}  // namespace cria::cpu::avx2
