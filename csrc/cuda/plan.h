// A batch as the device gets it: worked out on the host, laid out as one array of integers, and copied in one go.
//
// Captured graphs hold the addresses of its parts, so where each part lies depends on capacities alone, not on the
// batch; only the block tables, whose length varies most, stand last and have room for as many as ever come.
//
//     counts | tokens | positions | sequence of each token | outputs | sequences | whole tiles | split tiles | blocks
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../cuda/attention.h"
#include "../../cuda/batch.h"
#include "../core/batch.h"

namespace cria::cuda {

// How many of each there is room for: powers of two, and multiples of 256 above that.
struct Capacities {
  std::size_t tokens = 0, outputs = 0, sequences = 0, whole_tiles = 0, split_tiles = 0;
  std::size_t splits = 0;         // of a split tile
  std::size_t split_queries = 0;  // of all split tiles

  auto operator<=>(const Capacities&) const = default;
};

std::size_t capacity_for(std::size_t count);

// The tiles of attention for one number of query heads to a kv head. A sequence whose new tokens fit one split tile,
// and whose keys are more than one split, has its splits computed apart.
struct AttentionTiles {
  AttentionTiles() = default;
  // Tiles of at most so many queries, whole and split. Each sequence may grow by `growth` tokens before they are cut
  // anew.
  AttentionTiles(const Batch& batch, std::size_t per_whole, std::size_t per_split, std::size_t growth = 0);

  std::vector<AttentionTile> whole, split;
  std::size_t splits = 0;         // the most of any split tile
  std::size_t split_queries = 0;  // of all split tiles
};

class BatchPlan {
 public:
  BatchPlan(const Batch& batch, const AttentionTiles& tiles);

  const Capacities& capacities() const { return capacities_; }
  std::size_t bytes() const { return words_ * sizeof(std::int32_t); }
  // Writes all of it to `out`, of bytes().
  void write(std::int32_t* out) const;

  // Its parts, once it stands at `base` on the device.
  DeviceBatch batch(const std::int32_t* base) const;
  Rows tokens(const std::int32_t* base) const { return rows(base, kTokens, capacities_.tokens); }
  Rows outputs(const std::int32_t* base) const { return rows(base, kOutputs, capacities_.outputs); }
  Rows whole_tile_rows(const std::int32_t* base) const { return rows(base, kWhole, capacities_.whole_tiles); }
  Rows split_tile_rows(const std::int32_t* base) const { return rows(base, kSplit, capacities_.split_tiles); }
  const std::int32_t* token_ids(const std::int32_t* base) const { return base + at_.tokens; }
  const std::int32_t* output_rows(const std::int32_t* base) const { return base + at_.outputs; }
  const AttentionTile* whole_tiles(const std::int32_t* base) const {
    return reinterpret_cast<const AttentionTile*>(base + at_.whole);
  }
  // Of a batch that moves on by itself (cuda/sample.h).
  std::int32_t* moving_tokens(std::int32_t* base) const { return base + at_.tokens; }
  std::int32_t* moving_positions(std::int32_t* base) const { return base + at_.positions; }
  BatchSequence* moving_sequences(std::int32_t* base) const {
    return reinterpret_cast<BatchSequence*>(base + at_.sequences);
  }
  const AttentionTile* split_tiles(const std::int32_t* base) const {
    return reinterpret_cast<const AttentionTile*>(base + at_.split);
  }

 private:
  enum Count { kTokens, kOutputs, kWhole, kSplit, kCounts };

  static Rows rows(const std::int32_t* base, Count count, std::size_t capacity) {
    return {static_cast<int>(capacity), base + count};
  }

  const Batch& batch_;
  const AttentionTiles& tiles_;
  Capacities capacities_;
  struct {
    std::size_t tokens, positions, sequence_of, outputs, sequences, whole, split, blocks;
  } at_;  // words from the beginning
  std::size_t words_;
};

}  // namespace cria::cuda
