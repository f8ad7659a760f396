#include "plan.h"

#include <algorithm>

namespace cria::cpu {
namespace {

// Queries in a task: enough to read a tile of K and V once for many, few enough to spread a prompt over the cores.
constexpr std::size_t kTaskQueries = 32;

// A task of more than a quarter of a thread's share could leave the others waiting for it at the end.
constexpr std::size_t kTasksPerThread = 4;

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace

BatchPlan::BatchPlan(const Batch& batch) {
  slots.reserve(batch.size);
  sequences.reserve(batch.sequences.size());
  for (const Sequence& s : batch.sequences) {
    sequences.push_back({s.first, s.past, s.blocks.data()});
    for (std::size_t i = s.past; i < s.past + s.count; ++i) {
      slots.push_back({static_cast<std::uint32_t>(s.blocks[i / kKvBlock]), static_cast<std::uint32_t>(i % kKvBlock)});
    }
  }
}

AttentionPlan::AttentionPlan(const Batch& batch, std::size_t heads, std::size_t kv_heads, unsigned threads) {
  const auto group = static_cast<std::uint32_t>(heads / kv_heads);
  std::size_t work = 0;  // queries times keys
  for (const Sequence& s : batch.sequences) work += kv_heads * s.count * (s.past + s.count);

  // Heads outermost: their work is alike, so a run of neighbouring tasks, which is what a thread is given, has its part
  // of every sequence, however different their lengths.
  for (std::uint32_t head = 0; head < kv_heads; ++head) {
    for (std::uint32_t i = 0; i < batch.sequences.size(); ++i) {
      const Sequence& s = batch.sequences[i];
      const std::size_t keys = s.past + s.count;
      // A prompt has its tasks of queries; one query has splits, worth their merge where the whole would be too much.
      const bool split = threads > 1 && s.count == 1 && keys > kKeySplit && keys * kTasksPerThread * threads > work;
      if (split) {
        const auto splits = static_cast<std::uint32_t>(ceil_div(keys, kKeySplit));
        for (std::uint32_t h = 0; h < group; ++h) {
          merges.push_back({static_cast<std::uint32_t>(s.first), head * group + h,
                            static_cast<std::uint32_t>(partials) + h, group, splits});
        }
        for (std::uint32_t k = 0; k < splits; ++k) {
          tasks.push_back({i, head, 0, 1, static_cast<std::int32_t>(k), static_cast<std::uint32_t>(partials)});
          partials += group;
          query_keys_ += kKeySplit;
        }
      } else {
        for (std::size_t query = 0; query < s.count; query += kTaskQueries) {
          const auto end = static_cast<std::uint32_t>(std::min(s.count, query + kTaskQueries));
          tasks.push_back({i, head, static_cast<std::uint32_t>(query), end, -1, 0});
          query_keys_ += (s.past + end) * (end - query);
        }
      }
    }
  }
}

std::size_t AttentionPlan::task_cost(const KvLayer& layer) const {
  return tasks.empty() ? 0 : query_keys_ / tasks.size() * layer.head_bytes() / kKvBlock;
}

}  // namespace cria::cpu
