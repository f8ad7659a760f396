#include "kv_move.h"

namespace cria::cpu {
namespace {

KvSlot slot_of(std::int32_t slot) {
  constexpr std::uint32_t kPlaces = kKvBlock;
  const auto index = static_cast<std::uint32_t>(slot);
  return {index / kPlaces, index % kPlaces};
}

// Whether the slot is the next of a run that began at `first`.
bool follows(KvSlot first, std::uint32_t count, KvSlot slot) {
  return slot.block == first.block && slot.place == first.place + count;
}

}  // namespace

std::vector<KvRun> kv_runs(std::span<const std::int32_t> from, std::span<const std::int32_t> to) {
  std::vector<KvRun> runs;
  for (std::size_t i = 0; i < from.size(); ++i) {
    const KvSlot source = slot_of(from[i]), target = slot_of(to[i]);
    const bool next = !runs.empty() && follows(runs.back().from, runs.back().count, source) &&
                      follows(runs.back().to, runs.back().count, target);
    if (next) {
      ++runs.back().count;
    } else {
      runs.push_back({source, target, 1});
    }
  }
  return runs;
}

}  // namespace cria::cpu
