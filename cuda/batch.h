// A batch on the device: csrc/core/batch.h as the kernels read it. It is filled by one copy a run, and a decode step
// that feeds its token back moves it on by itself (sample.h).
#pragma once

#include <cstdint>

#include "../csrc/cria.h"

namespace cria::cuda {

constexpr int kKvBlock = CRIA_KV_BLOCK;

struct BatchSequence {
  std::int32_t first;  // its first new token, as a row of the batch
  std::int32_t past;   // tokens that the cache held before: new token i has index past + i, and sees past + i + 1 keys
  std::int32_t table;  // where its block table begins
};

// Pointers to device memory.
struct DeviceBatch {
  const std::int32_t* token_count;
  const std::int32_t* positions;    // [tokens], for RoPE
  const std::int32_t* sequence_of;  // [tokens]
  const BatchSequence* sequences;
  const std::int32_t* blocks;  // the block tables, one after another
};

}  // namespace cria::cuda
