#include "../embed.h"

#include "../../core/half.h"

namespace cria::cpu::scalar {
namespace {

template <class Element, float (*widen)(Element)>
void embed_float(const Panels& table, std::size_t row, float* out) {
  const auto* panel = panel_values<Element>(table, row / kPanelRows);
  for (std::size_t c = 0; c < table.cols; ++c) out[c] = widen(panel[c * kPanelRows + row % kPanelRows]);
}

float same(float value) { return value; }

// The weights of one block, without their scale.
void unpack_block(const std::uint8_t (&lines)[4][kLine], std::size_t lane, std::int32_t (&out)[kBlock]) {
  for (std::size_t k = 0; k < kBlock / 2; ++k) {
    const std::int32_t pair = lines[k / 4][4 * lane + k % 4];
    out[k] = (pair & 15) - kQ4Zero;
    out[k + kBlock / 2] = (pair >> 4) - kQ4Zero;
  }
}

void unpack_block(const std::uint8_t (&lines)[8][kLine], std::size_t lane, std::int32_t (&out)[kBlock]) {
  for (std::size_t k = 0; k < kBlock; ++k) out[k] = lines[k / 4][4 * lane + k % 4] - kQ8Zero;
}

template <class Superblock>
void embed_quantised(const Panels& table, std::size_t row, float* out) {
  const auto* panel = panel_superblocks<Superblock>(table, row / kPanelRows);
  const std::size_t lane = row % kPanelRows;
  for (std::size_t b = 0; b < table.cols / kBlock; ++b) {
    const Superblock& superblock = panel[b / kSuperblockBlocks];
    const std::size_t half = b % kSuperblockBlocks;
    std::int32_t weights[kBlock];
    unpack_block(superblock.quants[half], lane, weights);
    const float scale = half_to_float(superblock.scale[half][lane]);
    for (std::size_t k = 0; k < kBlock; ++k) out[b * kBlock + k] = scale * static_cast<float>(weights[k]);
  }
}

void embed_row(const Panels& table, std::size_t row, float* out) {
  switch (table.type) {
    case CRIA_TYPE_F32:
      return embed_float<float, same>(table, row, out);
    case CRIA_TYPE_F16:
      return embed_float<std::uint16_t, half_to_float>(table, row, out);
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

}  // namespace cria::cpu::scalar
