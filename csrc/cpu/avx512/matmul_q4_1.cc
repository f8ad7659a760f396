#include "matmul_q.h"

namespace cria::cpu::avx512 {
namespace {

struct Q4_1 {
  using Superblock = Q4_1Superblock;
  using Scales = LeadLines<Superblock>;
  static constexpr auto kByHalves = avx2::matmul_q4_1;

  [[gnu::always_inline]] static void words(const Superblock& superblock, std::size_t, __m512i (&word)[kWords]) {
    nibble_words(superblock.nibbles, word);
  }
};

}  // namespace

void matmul_q4_1(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul<BlockOperands, Q4_1>(op, begin, end); }

}  // namespace cria::cpu::avx512
