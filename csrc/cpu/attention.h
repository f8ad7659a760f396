// Causal attention in the flash style (Dao et al. 2022, "FlashAttention"; Dao 2023, "FlashAttention-2"): softmax online
// over tiles of keys, no score matrix in memory, keys after a query's own skipped rather than masked.
//
//     out[h] = Σ_j softmax_j(scale q_h · k_j) v_j,     j over the query's own token and those before it in its sequence
//
// The arithmetic, for one query and one head with n keys, fixed so that no threads, batch, chunking or block table can
// change a bit. Keys are taken in splits of 512 and, within a split, tiles of 64, both counted from key 0:
//
//     score_j = (chain of fma over ascending d, from 0) * scale
//     tile:    m' = max(m, scores);  c = exp(m - m');  p_j = exp(score_j - m')
//              l = fma(l, c, sum p)         the sum in the order of reduce.h: lane j % 16, ascending, then the tree
//              o[d] = o[d] * c, then o[d] = fma(p_j, v_j[d], o[d]) for ascending j
//              a split's first tile has no m, l, o before it: m' = max of the scores, l = sum p, o starts from 0
//     splits:  the first as it is, each further one, (m2, l2, o2), merged in order:
//              m' = max(m, m2);  a = exp(m - m');  b = exp(m2 - m')
//              l = fma(l, a, l2 * b);  o[d] = fma(o[d], a, o2[d] * b)
//     out[d] = o[d] * (1 / l)
//
// A key or value is widened to f32 first, which is exact, in q8_0 too (kv.h): each type of cache has the bits of f32.
//
// exp is exp.h's; a comparison with NaN keeps the other operand (maxps(score, m)), and p is NaN then, so NaN reaches
// the output.
//
// Grouped queries: query head h reads kv head h / (heads / kv_heads); a task takes all query heads of one kv head, so a
// tile of K and V is read once for all rows that a kernel takes together.
//
// Bound by memory at one token (the cache is read once), by arithmetic in prefill: 4 flop per query, key and dimension.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kv.h"

namespace cria::cpu {

constexpr std::size_t kKeyTile = 64;    // keys: the scores of 4 blocks; 8 KiB of f16 keys of 64 dimensions fit L1
constexpr std::size_t kKeySplit = 512;  // keys: a long context's unit of work; a multiple of kKeyTile
constexpr std::size_t kMaxHeadDim = 256;

// The new tokens of one sequence.
struct AttentionSequence {
  std::size_t first;           // row of its first new token in q and out
  std::size_t past;            // tokens that the cache held before; query i sees past + i + 1 keys
  const std::int32_t* blocks;  // block table
};

// What one slice computes: queries [first_query, end_query) of a sequence, for the query heads of one kv head.
// A whole task goes over all splits and writes `out`; a split task goes over one and leaves (m, l, o), not yet divided
// by l, in `partials` for attention_merge. Of its queries, those that end before the split leave theirs unwritten.
struct AttentionTask {
  std::uint32_t sequence, kv_head;
  std::uint32_t first_query, end_query;
  std::int32_t split;     // -1: all of them
  std::uint32_t partial;  // index of the first of its (end_query - first_query) * group partials, in that order
};

// One output row whose splits were computed apart: partials first, first + step, ..., in the order of the splits.
struct AttentionMerge {
  std::uint32_t row, head;  // of out
  std::uint32_t first, step;
  std::uint32_t splits;  // those that hold a key of this row's query: its keys / kKeySplit, rounded up; at least 1
};

struct Attention {
  const float* q;  // [tokens][heads * head_dim], tokens `q_stride` floats apart; turned by rope.h
  std::size_t q_stride;
  KvLayer cache;
  std::size_t heads;  // a multiple of cache.kv_heads
  float scale;        // 1 / sqrt(head_dim)
  const AttentionSequence* sequences;
  const AttentionTask* tasks;
  const AttentionMerge* merges;
  float* partials;  // [partial][2 + head_dim]: m, l, o
  float* out;       // [tokens][heads * head_dim], tokens `out_stride` floats apart
  std::size_t out_stride;
};

// Row i of a task: query first_query + i / group, and head i % group of the kv head's group. Rows are in the order of
// their partials, and of their numbers of keys.
struct AttentionRow {
  const float* q;    // [head_dim]
  float* out;        // [head_dim]
  std::size_t keys;  // that the query sees
};

// Static, not inline: see reduce.h.
static inline std::size_t attention_group(const Attention& op) { return op.heads / op.cache.kv_heads; }

static inline std::size_t attention_rows(const Attention& op, const AttentionTask& task) {
  return (task.end_query - task.first_query) * attention_group(op);
}

static inline AttentionRow attention_row(const Attention& op, const AttentionTask& task, std::size_t i) {
  const AttentionSequence& sequence = op.sequences[task.sequence];
  const std::size_t group = attention_group(op);
  const std::size_t query = task.first_query + i / group;
  const std::size_t column = (task.kv_head * group + i % group) * op.cache.head_dim;
  const std::size_t token = sequence.first + query;
  return {op.q + token * op.q_stride + column, op.out + token * op.out_stride + column, sequence.past + query + 1};
}

static inline float* attention_partial(const Attention& op, std::size_t index) {
  return op.partials + index * (2 + op.cache.head_dim);
}

// head_dim is a multiple of 8, at most kMaxHeadDim. Tasks, or merges, [begin, end).
namespace scalar {
void attention(const Attention&, std::size_t begin, std::size_t end);
void attention_merge(const Attention&, std::size_t begin, std::size_t end);
}  // namespace scalar
namespace avx2 {
void attention(const Attention&, std::size_t begin, std::size_t end);
void attention_merge(const Attention&, std::size_t begin, std::size_t end);
}  // namespace avx2
namespace avx512 {
void attention(const Attention&, std::size_t begin, std::size_t end);
void attention_merge(const Attention&, std::size_t begin, std::size_t end);
}  // namespace avx512

}  // namespace cria::cpu
