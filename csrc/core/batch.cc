#include "batch.h"

#include <algorithm>
#include <string>

#include "checked.h"
#include "error.h"

namespace cria {
namespace {

// A block that two tokens' keys are written to at once would hold either, by chance; one that is read meanwhile too.
void check_written_once(const std::vector<Sequence>& sequences, std::span<const std::int32_t> tables) {
  std::vector<std::int32_t> written;
  for (const Sequence& s : sequences) {
    if (s.count == 0) continue;
    const std::size_t from = s.past / CRIA_KV_BLOCK, to = (s.past + s.count - 1) / CRIA_KV_BLOCK;
    written.insert(written.end(), s.blocks.begin() + from, s.blocks.begin() + to + 1);
  }
  std::sort(written.begin(), written.end());
  std::vector<bool> seen(written.size());
  for (const std::int32_t block : tables) {
    const auto at = std::lower_bound(written.begin(), written.end(), block);
    if (at == written.end() || *at != block) continue;
    const auto index = static_cast<std::size_t>(at - written.begin());
    if (seen[index]) {
      throw Error(CRIA_ERROR_ARGUMENT, "batch.blocks: must name a block that is written to only once, not block " +
                                           std::to_string(block) + " twice");
    }
    seen[index] = true;
  }
}

}  // namespace

Batch check_batch(const cria_batch& batch, std::size_t cache_blocks, const BatchNeeds& needs) {
  require(batch.token_count <= INT32_MAX, "batch.token_count", "below 2^31", batch.token_count);
  require(batch.sequence_count <= INT32_MAX, "batch.sequence_count", "below 2^31", batch.sequence_count);
  require(batch.output_count <= INT32_MAX, "batch.output_count", "below 2^31", batch.output_count);
  require(batch.block_count <= INT32_MAX, "batch.block_count", "below 2^31", batch.block_count);

  Batch checked{.size = batch.token_count};
  if (needs.vocabulary > 0) {
    checked.tokens = checked_array(batch.tokens, batch.token_count, "batch.tokens");
    check_range(checked.tokens, needs.vocabulary, "batch.tokens");
  }
  if (needs.positions) {
    checked.positions = checked_array(batch.positions, batch.token_count, "batch.positions");
    check_range(checked.positions, std::size_t{INT32_MAX} + 1, "batch.positions");
  }
  checked.outputs = checked_array(batch.outputs, batch.output_count, "batch.outputs");
  check_range(checked.outputs, batch.token_count, "batch.outputs");

  const auto lengths = checked_array(batch.lengths, batch.sequence_count, "batch.lengths");
  const auto pasts = checked_array(batch.pasts, batch.sequence_count, "batch.pasts");
  const auto block_counts = checked_array(batch.block_counts, batch.sequence_count, "batch.block_counts");
  const auto blocks = checked_array(batch.blocks, batch.block_count, "batch.blocks");
  check_range(blocks, cache_blocks, "batch.blocks");

  std::size_t first = 0, table = 0;
  checked.sequences.reserve(batch.sequence_count);
  for (std::size_t s = 0; s < batch.sequence_count; ++s) {
    require(lengths[s] >= 0, "batch.lengths", "at least 0", lengths[s]);
    require(pasts[s] >= 0, "batch.pasts", "at least 0", pasts[s]);
    require(block_counts[s] >= 0, "batch.block_counts", "at least 0", block_counts[s]);
    const std::size_t count = static_cast<std::size_t>(lengths[s]), past = static_cast<std::size_t>(pasts[s]);
    const std::size_t named = static_cast<std::size_t>(block_counts[s]);
    require(count <= batch.token_count - first, "batch.lengths", "token_count in sum", first + count);
    require(named <= batch.block_count - table, "batch.block_counts", "block_count in sum", table + named);
    const std::size_t needed = (past + count + CRIA_KV_BLOCK - 1) / CRIA_KV_BLOCK;
    require(named >= needed, "batch.block_counts",
            "at least " + std::to_string(needed) + " for the tokens of sequence " + std::to_string(s), named);
    checked.sequences.push_back({first, count, past, blocks.subspan(table, named)});
    first += count;
    table += named;
  }
  require(first == batch.token_count, "batch.lengths", "token_count in sum", first);
  require(table == batch.block_count, "batch.block_counts", "block_count in sum", table);
  if (needs.writes) check_written_once(checked.sequences, blocks);
  return checked;
}

DecodeBatch check_decode(const cria_batch& batch, std::size_t cache_blocks, std::size_t vocabulary, std::size_t steps) {
  require(steps > 0 && steps <= INT32_MAX, "steps", "from 1 to 2^31 - 1", steps);
  cria_batch without_outputs = batch;
  without_outputs.output_count = 0;
  DecodeBatch checked{
      check_batch(without_outputs, cache_blocks, {.vocabulary = vocabulary, .positions = true, .writes = false}), {}};
  Batch& decode = checked.batch;
  require(decode.size == decode.sequences.size(), "batch.token_count", "one for each sequence", decode.size);
  std::vector<Sequence> ended;  // as they are after the last step
  for (std::size_t i = 0; i < decode.size; ++i) {
    Sequence s = decode.sequences[i];
    require(s.count == 1, "batch.lengths", "1 each", s.count);
    const std::size_t needed = (s.past + steps + CRIA_KV_BLOCK - 1) / CRIA_KV_BLOCK;
    require(s.blocks.size() >= needed, "batch.block_counts",
            "at least " + std::to_string(needed) + " for the steps of sequence " + std::to_string(i), s.blocks.size());
    require(static_cast<std::size_t>(decode.positions[i]) + steps <= INT32_MAX, "batch.positions", "below 2^31 - steps",
            decode.positions[i]);
    s.count = steps;
    ended.push_back(s);
    checked.outputs.push_back(static_cast<std::int32_t>(i));
  }
  check_written_once(ended, checked_array(batch.blocks, batch.block_count, "batch.blocks"));
  decode.outputs = checked.outputs;
  return checked;
}

}  // namespace cria
