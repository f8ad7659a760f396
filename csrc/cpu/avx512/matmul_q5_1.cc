#include "fifths.h"

namespace cria::cpu::avx512 {
namespace {

struct Q5_1 {
  using Superblock = Q5_1Superblock;
  using Scales = LeadLines<Superblock>;
  static constexpr auto kByHalves = avx2::matmul_q5_1;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t, __m512i (&word)[kWords]) {
    words_of_five(superblock.fifths, superblock.nibbles, word);
  }
};

}  // namespace

void matmul_q5_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q5_1>(op, begin, end); }

}  // namespace cria::cpu::avx512
