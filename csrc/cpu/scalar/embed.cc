#include "../embed_rows.h"

namespace cria::cpu::scalar {
namespace {

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

struct Rows {
  static float widen_half(std::uint16_t half) { return half_to_float(half); }

  template <class Superblock>
  static void embed_quantised(const Panels& table, std::size_t row, float* out) {
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
};

}  // namespace

void embed(const Embed& op, std::size_t begin, std::size_t end) { embed_rows<Rows>(op, begin, end); }

}  // namespace cria::cpu::scalar
