// Batches: sound ones, and of these such as have one thing wrong.
#pragma once

#include <vector>

#include "../../csrc/cria.h"
#include "input.h"

namespace cria::fuzz {

// The arrays that a cria_batch points to, each exactly as long as it says.
struct BatchArrays {
  std::vector<std::int32_t> tokens, positions, lengths, pasts, block_counts, blocks, outputs;
};

// Up to four sequences of up to `most` new tokens after up to 47 old ones, whose blocks count up from wherever the
// input says, round and round: sound where the cache is large enough.
inline BatchArrays read_batch(Input& input, std::size_t cache_blocks, std::size_t vocabulary, std::size_t most) {
  BatchArrays batch;
  std::size_t next = input.below(256);
  for (std::size_t s = input.below(5); s > 0; --s) {
    const std::size_t length = input.below(most + 1), past = input.below(48);
    const std::size_t blocks = (past + length + CRIA_KV_BLOCK - 1) / CRIA_KV_BLOCK + input.below(2);
    batch.lengths.push_back(static_cast<std::int32_t>(length));
    batch.pasts.push_back(static_cast<std::int32_t>(past));
    batch.block_counts.push_back(static_cast<std::int32_t>(blocks));
    for (std::size_t i = 0; i < blocks; ++i) {
      batch.blocks.push_back(static_cast<std::int32_t>(cache_blocks == 0 ? i : next++ % cache_blocks));
    }
    for (std::size_t i = 0; i < length; ++i) {
      batch.tokens.push_back(static_cast<std::int32_t>(input.below(256) % vocabulary));
      batch.positions.push_back(static_cast<std::int32_t>(past + i));
    }
  }
  const std::size_t tokens = batch.tokens.size();
  if (tokens == 0) return batch;
  for (std::size_t i = input.below(4); i > 0; --i) {
    batch.outputs.push_back(static_cast<std::int32_t>(input.below(256) % tokens));
  }
  return batch;
}

// One number anywhere becomes any other, or one array longer or shorter than the others say.
inline void spoil(Input& input, BatchArrays& batch) {
  std::vector<std::int32_t>* const arrays[] = {&batch.tokens,       &batch.positions, &batch.lengths, &batch.pasts,
                                               &batch.block_counts, &batch.blocks,    &batch.outputs};
  std::vector<std::int32_t>& array = *arrays[input.below(7)];
  if (input.below(4) == 0) {
    array.push_back(input.hostile_int());
  } else if (!array.empty()) {
    array[input.below(256) % array.size()] = input.below(2) == 0 ? input.hostile_int() : input.take<std::uint8_t>();
  }
  // A count is of several arrays, which must all be as long as it says.
  const auto as_long = [](std::vector<std::int32_t>& a, const std::vector<std::int32_t>& b) { a.resize(b.size()); };
  if (&array == &batch.positions) as_long(batch.tokens, array);
  if (&array == &batch.tokens) as_long(batch.positions, array);
  for (auto* of_sequences : {&batch.lengths, &batch.pasts, &batch.block_counts}) {
    if (&array != of_sequences) continue;
    for (auto* other : {&batch.lengths, &batch.pasts, &batch.block_counts}) as_long(*other, array);
  }
}

inline cria_batch view(const BatchArrays& batch) {
  return {.struct_size = sizeof(cria_batch),
          .token_count = batch.tokens.size(),
          .sequence_count = batch.lengths.size(),
          .block_count = batch.blocks.size(),
          .output_count = batch.outputs.size(),
          .tokens = batch.tokens.data(),
          .positions = batch.positions.data(),
          .lengths = batch.lengths.data(),
          .pasts = batch.pasts.data(),
          .block_counts = batch.block_counts.data(),
          .blocks = batch.blocks.data(),
          .outputs = batch.outputs.data()};
}

}  // namespace cria::fuzz
