#include "matmul_q.h"

namespace cria::cpu::avx2 {
namespace {

// The nibbles of the values made unsigned, low ones and high ones.
struct Planes {
  alignas(16) std::uint8_t of[2][16];
};
constexpr Planes kUnsigned = [] {
  Planes planes{};
  for (int i = 0; i < 16; ++i) {
    const int value = kIq4Values[i] + kQ8Zero;
    planes.of[0][i] = value % 16;
    planes.of[1][i] = value / 16;
  }
  return planes;
}();

struct IQ4_NL {
  using Superblock = Q4Superblock;
  using Scales = PairScales<Superblock, kQ8Zero>;
  static constexpr int kPlanes = 2, kMost = 15, kTogether = 1;

  static __m256i word(const Superblock& superblock, std::size_t b, int, int plane, int g, std::size_t half) {
    const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(kUnsigned.of[plane]));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibble_word(superblock.quants[b], g, half));
  }
};

}  // namespace

void matmul_iq4_nl(const MatmulQ& op, std::size_t begin, std::size_t end) { matmul_q<IQ4_NL>(op, begin, end); }

}  // namespace cria::cpu::avx2
