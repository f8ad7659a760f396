#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q8 {
  using Superblock = Q8Superblock;
  using Scales = PairScales<Superblock, kQ8Zero>;
  static constexpr auto kByHalves = avx2::matmul_q8;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t b, __m512i (&word)[kWords]) {
#pragma GCC unroll 8
    for (int g = 0; g < kWords; ++g) word[g] = load_line(superblock.quants[b][g]);
  }
};

}  // namespace

void matmul_q8(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q8>(op, begin, end); }

}  // namespace cria::cpu::avx512
