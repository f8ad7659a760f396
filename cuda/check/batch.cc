#include "batch.h"

#include <algorithm>
#include <numeric>

namespace cria::cuda::check {

HostBatch::HostBatch(Checks& checks, const std::vector<Lengths>& lengths, std::int32_t capacity) {
  for (const Lengths& length : lengths) {
    const auto sequence = static_cast<std::int32_t>(sequences.size());
    sequences.push_back({tokens, length.past, static_cast<std::int32_t>(blocks.size())});
    for (std::int32_t i = 0; i < length.fresh; ++i) {
      positions.push_back(length.past + i);
      sequence_of.push_back(sequence);
    }
    tokens += length.fresh;
    blocks.resize(blocks.size() + (length.past + length.fresh + kKvBlock - 1) / kKvBlock);
  }
  positions.resize(capacity, -1);
  sequence_of.resize(capacity, -1);

  block_count = blocks.size() + 3;
  std::vector<std::int32_t> order(block_count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), checks.random);
  std::copy_n(order.begin(), blocks.size(), blocks.begin());
}

TestBatch::TestBatch(Checks& checks, const std::vector<Lengths>& lengths, std::int32_t capacity)
    : HostBatch(checks, lengths, capacity),
      device_positions_(checks, positions),
      device_sequence_of_(checks, sequence_of),
      device_blocks_(checks, blocks),
      device_sequences_(checks, sequences),
      device_rows_(checks, tokens, capacity) {}

}  // namespace cria::cuda::check
