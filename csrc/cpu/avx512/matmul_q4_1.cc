#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q4_1 {
  using Superblock = Q4_1Superblock;
  using Scales = LeadLines<Superblock>;
  static constexpr auto kByHalves = avx2::matmul_q4_1;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t, __m512i (&word)[kWords]) {
#pragma GCC unroll 4
    for (int g = 0; g < kWords / 2; ++g) {
      const __m512i line = load_line(superblock.nibbles[g]);
      word[g] = low_nibbles(line);
      word[g + kWords / 2] = high_nibbles(line);
    }
  }
};

}  // namespace

void matmul_q4_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<Q4_1>(op, begin, end); }

}  // namespace cria::cpu::avx512
