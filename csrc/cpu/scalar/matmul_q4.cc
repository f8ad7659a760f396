#include <algorithm>
#include <cmath>

#include "../../core/half.h"
#include "../matmul.h"

namespace cria::cpu::scalar {
namespace {

// Σ_k u_k q_k over one block, u being the unsigned weights of the row at `lane`.
std::int32_t dot(const std::uint8_t (&lines)[4][kLine], std::size_t lane, const std::int8_t* q) {
  std::int32_t sum = 0;
  for (std::size_t k = 0; k < kBlock / 2; ++k) {
    const int pair = lines[k / 4][4 * lane + k % 4];
    sum += (pair & 15) * q[k] + (pair >> 4) * q[k + kBlock / 2];
  }
  return sum;
}

}  // namespace

void matmul_q4(const MatmulQ& op, std::size_t begin, std::size_t end) {
  const std::size_t blocks = op.weights.cols / kBlock;
  const std::size_t last = std::min(end * kPanelRows, op.weights.rows);
  for (std::size_t row = begin * kPanelRows; row < last; ++row) {
    const std::size_t lane = row % kPanelRows;
    const auto* panel = panel_superblocks<Q4Superblock>(op.weights, row / kPanelRows);
    for (std::size_t t = 0; t < op.tokens; ++t) {
      const std::int8_t* quants = op.x.quants + t * op.x.stride;
      const float* scales = op.x.scales + t * op.x.blocks();
      const std::int32_t* sums = op.x.sums + t * op.x.blocks();

      float out = 0.0f;
      for (std::size_t b = 0; b < blocks; ++b) {
        const Q4Superblock& superblock = panel[b / kSuperblockBlocks];
        const std::size_t half = b % kSuperblockBlocks;
        const std::int32_t product = dot(superblock.quants[half], lane, quants + b * kBlock) - kQ4Zero * sums[b];
        out = std::fma(static_cast<float>(product), half_to_float(superblock.scale[half][lane]) * scales[b], out);
      }
      op.out[t * op.out_stride + row] = out;
    }
  }
}

}  // namespace cria::cpu::scalar
