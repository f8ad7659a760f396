// A batch on the device, with block tables in a random order.
#pragma once

#include <vector>

#include "checks.h"

namespace cria::cuda::check {

// Tokens of a sequence that the cache holds, and new ones.
struct Lengths {
  std::int32_t past, fresh;
};

// A batch as the host makes it up.
struct HostBatch {
  // The rows from the new tokens on, up to `capacity`, hold -1, which no kernel may follow. Blocks that belong to no
  // sequence stand between those that do.
  HostBatch(Checks& checks, const std::vector<Lengths>& lengths, std::int32_t capacity);

  std::int32_t tokens = 0;      // new ones, of all sequences
  std::size_t block_count = 0;  // that a cache of it has
  std::vector<std::int32_t> positions, sequence_of, blocks;
  std::vector<BatchSequence> sequences;

  const std::int32_t* table(std::size_t sequence) const { return blocks.data() + sequences[sequence].table; }
};

class TestBatch : public HostBatch {
 public:
  TestBatch(Checks& checks, const std::vector<Lengths>& lengths, std::int32_t capacity);

  Rows rows() const { return device_rows_; }
  DeviceBatch device() const {
    return {rows().count, device_positions_.data(), device_sequence_of_.data(), device_sequences_.data(),
            device_blocks_.data()};
  }

 private:
  DeviceArray<std::int32_t> device_positions_, device_sequence_of_, device_blocks_;
  DeviceArray<BatchSequence> device_sequences_;
  DeviceRows device_rows_;
};

}  // namespace cria::cuda::check
