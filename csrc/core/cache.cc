#include "cache.h"

#include <algorithm>
#include <string>
#include <vector>

#include "checked.h"
#include "program.h"

namespace cria {
namespace {

// A slot, and the move that reads or writes it.
struct Use {
  std::int32_t slot;
  std::size_t move;
};

std::span<const std::int32_t> checked_slots(const Cache& cache, std::size_t count, const std::int32_t* slots,
                                            const char* name) {
  const auto checked = checked_array(slots, count, name);
  check_range(checked, cache.blocks * CRIA_KV_BLOCK, name);  // below 2^35
  return checked;
}

// The moves by the slot that they use, in the order of slots.
std::vector<Use> uses(std::span<const std::int32_t> slots) {
  std::vector<Use> sorted(slots.size());
  for (std::size_t i = 0; i < slots.size(); ++i) sorted[i] = {slots[i], i};
  std::sort(sorted.begin(), sorted.end(), [](const Use& a, const Use& b) { return a.slot < b.slot; });
  return sorted;
}

// So the result is the same whether the moves are made one by one or all sources are read first.
void check_order(std::span<const std::int32_t> from, std::span<const std::int32_t> to) {
  const std::vector<Use> writes = uses(to);
  for (std::size_t i = 1; i < writes.size(); ++i) {
    if (writes[i].slot != writes[i - 1].slot) continue;
    throw Error(CRIA_ERROR_ARGUMENT, "to: must name each slot once, not " + std::to_string(writes[i].slot) + " twice");
  }
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto write = std::lower_bound(writes.begin(), writes.end(), from[i],
                                        [](const Use& use, std::int32_t slot) { return use.slot < slot; });
    if (write == writes.end() || write->slot != from[i] || write->move >= i) continue;
    throw Error(CRIA_ERROR_ARGUMENT, "from: must name no slot that was moved to before, not " +
                                         std::to_string(from[i]) + ", to which move " + std::to_string(write->move) +
                                         " goes, for move " + std::to_string(i));
  }
}

}  // namespace

CacheMove check_move(const Cache& cache, std::size_t count, const std::int32_t* from, const std::int32_t* to,
                     std::int32_t shift, const cria_rope_options* rope) {
  const CacheMove move{checked_slots(cache, count, from, "from"), checked_slots(cache, count, to, "to"), shift,
                       shift == 0 ? nullptr : rope};
  if (shift != 0) check_rotation(*rope, cache.shape.head_dim, "rope");
  check_order(move.from, move.to);
  return move;
}

std::span<const std::int32_t> check_blocks(const Cache& cache, std::size_t count, const std::int32_t* blocks,
                                           bool distinct) {
  const auto checked = checked_array(blocks, count, "blocks");
  check_range(checked, cache.blocks, "blocks");
  if (!distinct) return checked;
  std::vector<std::int32_t> sorted(checked.begin(), checked.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end()) {
    throw Error(CRIA_ERROR_ARGUMENT, "blocks: must name each block once, not " + std::to_string(*twice) + " twice");
  }
  return checked;
}

}  // namespace cria
