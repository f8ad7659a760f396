#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q4 {
  using Superblock = Q4Superblock;
  using Scales = PairScales<Superblock, kQ4Zero>;
  static constexpr auto kByHalves = avx2::matmul_q4;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t b, __m512i (&word)[kWords]) {
    nibble_words(superblock.quants[b], word);
  }
};

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q4>(op, begin, end); }

}  // namespace cria::cpu::avx512
