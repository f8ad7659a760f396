#include "../embed.h"

#include <immintrin.h>

#include <cstring>

#include "../../core/half.h"

namespace cria::cpu::avx2 {
namespace {

float same(float value) { return value; }
float half_by_f16c(std::uint16_t half) { return _cvtsh_ss(half); }

// A column's 16 rows are half a cache line or a whole one: the lines bound this, not the one conversion from each.
template <class Element, float (*widen)(Element)>
void embed_float(const Panels& table, std::size_t row, float* out) {
  const auto* panel = panel_values<Element>(table, row / kPanelRows);
  for (std::size_t c = 0; c < table.cols; ++c) out[c] = widen(panel[c * kPanelRows + row % kPanelRows]);
}

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

template <class Superblock>
void embed_quantised(const Panels& table, std::size_t row, float* out) {
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

void embed_row(const Panels& table, std::size_t row, float* out) {
  switch (table.type) {
    case CRIA_TYPE_F32:
      return embed_float<float, same>(table, row, out);
    case CRIA_TYPE_F16:
      return embed_float<std::uint16_t, half_by_f16c>(table, row, out);
    case CRIA_TYPE_BF16:
      return embed_float<std::uint16_t, bf16_to_float>(table, row, out);
    case CRIA_TYPE_Q4_0:
      return embed_quantised<Q4Superblock>(table, row, out);
    case CRIA_TYPE_Q8_0:
      return embed_quantised<Q8Superblock>(table, row, out);
    default:
      return embed_decoded(table, row, out);
  }
}

}  // namespace

void embed(const Embed& op, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    embed_row(op.table, static_cast<std::size_t>(op.tokens[t]), op.out + t * op.out_stride);
  }
}

}  // namespace cria::cpu::avx2
