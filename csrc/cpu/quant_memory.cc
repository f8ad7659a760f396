#include "quant_memory.h"

#include "../core/checked.h"
#include "../core/weights.h"

namespace cria::cpu {
namespace {

// A cache line holds what 16 blocks have 4 bytes each of.
constexpr std::size_t kLineBlocks = 16;

constexpr std::size_t kBlockBytes = kBlock + sizeof(float) + sizeof(std::int32_t) + sizeof(QuantSums);

}  // namespace

std::size_t QuantMemory::blocks() const { return memory_.bytes() / kBlockBytes; }

void QuantMemory::grow(std::size_t rows, std::size_t dim) {
  const std::size_t wanted = checked_product({rows, quant_blocks(dim)});
  if (wanted <= blocks()) return;
  const std::size_t lines = wanted / kLineBlocks + (wanted % kLineBlocks != 0);
  memory_ = Memory(checked_product({lines, kLineBlocks * kBlockBytes}));
}

QuantRows QuantMemory::rows(std::size_t rows, std::size_t dim) const {
  const auto quants = reinterpret_cast<std::int8_t*>(memory_.data());
  const auto scales = reinterpret_cast<float*>(quants + blocks() * kBlock);
  const auto seeds = reinterpret_cast<std::int32_t*>(scales + blocks());
  return quant_block_by_block(quants, scales, seeds, seeds + blocks(), dim, rows);
}

}  // namespace cria::cpu
