// A batch whose every number was checked: cria_batch as the backends see it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../cria.h"

namespace cria {

struct Sequence {
  std::size_t first;                     // its first new token, as a row of the batch
  std::size_t count;                     // its new tokens
  std::size_t past;                      // tokens that the cache held before
  std::span<const std::int32_t> blocks;  // at least as many as past + count tokens need
};

struct Batch {
  std::size_t size;                      // tokens
  std::span<const std::int32_t> tokens;  // empty where the caller gave none
  std::span<const std::int32_t> positions;
  std::span<const std::int32_t> outputs;  // rows
  std::vector<Sequence> sequences;
};

// Which of cria_batch's optional arrays a caller must have given.
struct BatchNeeds {
  std::size_t vocabulary;  // tokens are ids below this; 0: no tokens needed
  bool positions;
  bool writes;  // new tokens are written to the cache: no block of theirs may be shared
};

// Throws CRIA_ERROR_ARGUMENT. The batch points into the caller's arrays.
Batch check_batch(const cria_batch& batch, std::size_t cache_blocks, const BatchNeeds& needs);

// The batch of a decode of so many steps (cria_program_decode), each sequence's one token being its output.
struct DecodeBatch {
  Batch batch;
  std::vector<std::int32_t> outputs;  // that batch.outputs is a view of
};
DecodeBatch check_decode(const cria_batch& batch, std::size_t cache_blocks, std::size_t vocabulary, std::size_t steps);

}  // namespace cria
