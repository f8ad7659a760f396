#include <immintrin.h>

#include <cstring>

#include "../embed_rows.h"

namespace cria::cpu::avx2 {
namespace {

// The row's word of one line.
std::int32_t word(const std::uint8_t (&line)[kLine], std::size_t lane) {
  std::int32_t value;
  std::memcpy(&value, &line[4 * lane], sizeof value);
  return value;
}

// The row's words of four lines.
__m128i gather(const std::uint8_t (*lines)[kLine], std::size_t lane) {
  return _mm_setr_epi32(word(lines[0], lane), word(lines[1], lane), word(lines[2], lane), word(lines[3], lane));
}

// The weights of one block, without their scale, as signed bytes.
__m256i unpack_block(const std::uint8_t (&lines)[4][kLine], std::size_t lane) {
  const __m128i pairs = gather(lines, lane), nibble = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(pairs, nibble), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), nibble);
  return _mm256_sub_epi8(_mm256_set_m128i(high, low), _mm256_set1_epi8(kQ4Zero));
}

__m256i unpack_block(const std::uint8_t (&lines)[8][kLine], std::size_t lane) {
  const __m256i bytes = _mm256_set_m128i(gather(lines + 4, lane), gather(lines, lane));
  return _mm256_xor_si256(bytes, _mm256_set1_epi8(static_cast<char>(kQ8Zero)));  // as - 128, modulo 256
}

struct Rows {
  static float widen_half(std::uint16_t half) { return _cvtsh_ss(half); }

  template <class Superblock>
  static void embed_quantised(const Panels& table, std::size_t row, float* out) {
    const auto* panel = panel_superblocks<Superblock>(table, row / kPanelRows);
    const std::size_t lane = row % kPanelRows;
    for (std::size_t b = 0; b < table.cols / kBlock; ++b) {
      const Superblock& superblock = panel[b / kSuperblockBlocks];
      const std::size_t half = b % kSuperblockBlocks;
      alignas(32) std::int8_t weights[kBlock];
      _mm256_store_si256(reinterpret_cast<__m256i*>(weights), unpack_block(superblock.quants[half], lane));
      const __m256 scale = _mm256_set1_ps(_cvtsh_ss(superblock.scale[half][lane]));
      for (std::size_t k = 0; k < kBlock; k += 8) {
        const __m256i eight = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(weights + k)));
        _mm256_storeu_ps(out + b * kBlock + k, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(eight)));
      }
    }
  }
};

}  // namespace

void embed(const Embed& op, std::size_t begin, std::size_t end) { embed_rows<Rows>(op, begin, end); }

}  // namespace cria::cpu::avx2
