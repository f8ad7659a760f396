#include "plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cria::cuda {
namespace {

constexpr std::size_t kWordsOfTile = sizeof(AttentionTile) / sizeof(std::int32_t);
constexpr std::size_t kWordsOfSequence = sizeof(BatchSequence) / sizeof(std::int32_t);

// Above this a capacity that is twice the count would cost memory, and grids of blocks with nothing to do.
constexpr std::size_t kLargestPower = 256;

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace

std::size_t capacity_for(std::size_t count) {
  if (count > kLargestPower) return ceil_div(count, kLargestPower) * kLargestPower;
  return count == 0 ? 0 : std::bit_ceil(count);
}

AttentionTiles::AttentionTiles(const Batch& batch, std::size_t per_whole, std::size_t per_split, std::size_t growth) {
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    const Sequence& s = batch.sequences[i];
    const std::size_t keys = s.past + s.count + growth;
    const bool apart = s.count <= per_split && keys > kKeySplit;
    const std::size_t queries = apart ? per_split : per_whole;
    if (apart && s.count > 0) splits = std::max(splits, ceil_div(keys, kKeySplit));
    for (std::size_t query = 0; query < s.count; query += queries) {
      const std::size_t end = std::min(s.count, query + queries);
      (apart ? split : whole)
          .push_back({static_cast<std::int32_t>(i), static_cast<std::int32_t>(query), static_cast<std::int32_t>(end),
                      static_cast<std::int32_t>(split_queries)});
      if (apart) split_queries += end - query;
    }
  }
}

BatchPlan::BatchPlan(const Batch& batch, const AttentionTiles& tiles) : batch_(batch), tiles_(tiles) {
  capacities_ = {
      capacity_for(batch.size),         capacity_for(batch.outputs.size()), capacity_for(batch.sequences.size()),
      capacity_for(tiles.whole.size()), capacity_for(tiles.split.size()),   capacity_for(tiles.splits),
      capacity_for(tiles.split_queries)};
  std::size_t words = kCounts;
  const auto place = [&](std::size_t count) {
    const std::size_t at = words;
    words += count;
    return at;
  };
  at_.tokens = place(capacities_.tokens);
  at_.positions = place(capacities_.tokens);
  at_.sequence_of = place(capacities_.tokens);
  at_.outputs = place(capacities_.outputs);
  at_.sequences = place(capacities_.sequences * kWordsOfSequence);
  at_.whole = place(capacities_.whole_tiles * kWordsOfTile);
  at_.split = place(capacities_.split_tiles * kWordsOfTile);
  at_.blocks = words;
  for (const Sequence& s : batch.sequences) words += s.blocks.size();
  words_ = words;
}

void BatchPlan::write(std::int32_t* out) const {
  std::fill_n(out, at_.blocks, 0);
  out[kTokens] = static_cast<std::int32_t>(batch_.size);
  out[kOutputs] = static_cast<std::int32_t>(batch_.outputs.size());
  out[kWhole] = static_cast<std::int32_t>(tiles_.whole.size());
  out[kSplit] = static_cast<std::int32_t>(tiles_.split.size());
  std::copy(batch_.tokens.begin(), batch_.tokens.end(), out + at_.tokens);
  std::copy(batch_.positions.begin(), batch_.positions.end(), out + at_.positions);
  std::copy(batch_.outputs.begin(), batch_.outputs.end(), out + at_.outputs);

  std::int32_t* sequence = out + at_.sequences;
  std::size_t table = 0;
  for (std::size_t i = 0; i < batch_.sequences.size(); ++i, sequence += kWordsOfSequence) {
    const Sequence& s = batch_.sequences[i];
    std::fill_n(out + at_.sequence_of + s.first, s.count, static_cast<std::int32_t>(i));
    const BatchSequence words{static_cast<std::int32_t>(s.first), static_cast<std::int32_t>(s.past),
                              static_cast<std::int32_t>(table)};
    std::memcpy(sequence, &words, sizeof(words));
    std::copy(s.blocks.begin(), s.blocks.end(), out + at_.blocks + table);
    table += s.blocks.size();
  }
  const auto write_tiles = [&](const std::vector<AttentionTile>& tiles, std::size_t at) {
    if (!tiles.empty()) std::memcpy(out + at, tiles.data(), tiles.size() * sizeof(AttentionTile));
  };
  write_tiles(tiles_.whole, at_.whole);
  write_tiles(tiles_.split, at_.split);
}

DeviceBatch BatchPlan::batch(const std::int32_t* base) const {
  return {base + kTokens, base + at_.positions, base + at_.sequence_of,
          reinterpret_cast<const BatchSequence*>(base + at_.sequences), base + at_.blocks};
}

}  // namespace cria::cuda
