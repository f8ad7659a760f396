#include "fifths.h"

namespace cria::cpu::avx512 {
namespace {

struct Q5_0 {
  using Superblock = Q5Superblock;
  using Scales = PairScales<Superblock, kQ5Zero>;
  static constexpr auto kByHalves = avx2::matmul_q5_0;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t b, __m512i (&word)[kWords]) {
    words_of_five(superblock.quants[b][0], superblock.quants[b] + 1, word);
  }
};

}  // namespace

void matmul_q5_0(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q5_0>(op, begin, end); }

}  // namespace cria::cpu::avx512
