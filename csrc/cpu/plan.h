// What the kernels need to know of a batch, worked out once for all layers: where each token's key goes, and how
// attention is cut into tasks.
#pragma once

#include <cstddef>
#include <vector>

#include "../core/batch.h"
#include "attention.h"
#include "kv.h"

namespace cria::cpu {

struct BatchPlan {
  explicit BatchPlan(const Batch& batch);

  std::vector<KvSlot> slots;  // of each token
  std::vector<AttentionSequence> sequences;
};

struct AttentionPlan {
  AttentionPlan(const Batch& batch, std::size_t heads, std::size_t kv_heads, unsigned threads);

  // What a task costs on average, in bytes read: K and V for each of its queries, which after the first come from L1 or
  // L2 but are multiplied as often. What the executor sizes its slices by.
  std::size_t task_cost(const KvLayer& layer) const;

  std::vector<AttentionTask> tasks;
  std::vector<AttentionMerge> merges;
  std::size_t partials = 0;  // that the split tasks leave for the merges

 private:
  std::size_t query_keys_ = 0;
};

}  // namespace cria::cpu
