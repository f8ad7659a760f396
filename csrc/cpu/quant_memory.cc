#include "quant_memory.h"

#include "../core/checked.h"
#include "../core/weights.h"

namespace cria::cpu {
namespace {

// The scales of 16 blocks fill a cache line; so do their seeds, and their sums.
constexpr std::size_t kLineBlocks = 16;

constexpr std::size_t kBlockBytes = kBlock + sizeof(float) + sizeof(std::int32_t) + sizeof(QuantSums);

}  // namespace

std::size_t QuantMemory::blocks() const { return memory_.bytes() / kBlockBytes; }

std::size_t QuantMemory::bytes(std::size_t rows, std::size_t dim) {
  const std::size_t blocks = checked_product({rows, quant_blocks(dim)});
  const std::size_t lines = blocks / kLineBlocks + (blocks % kLineBlocks != 0);
  return checked_product({lines, kLineBlocks * kBlockBytes});
}

void QuantMemory::grow(std::size_t rows, std::size_t dim) {
  const std::size_t wanted = bytes(rows, dim);
  if (wanted > bytes()) memory_ = Memory(wanted);
}

QuantRows QuantMemory::rows(std::size_t rows, std::size_t dim) const {
  const auto quants = reinterpret_cast<std::int8_t*>(memory_.data());
  const auto scales = reinterpret_cast<float*>(quants + blocks() * kBlock);
  const auto seeds = reinterpret_cast<std::int32_t*>(scales + blocks());
  return quant_block_by_block(quants, scales, seeds, seeds + blocks(), dim, rows);
}

}  // namespace cria::cpu
