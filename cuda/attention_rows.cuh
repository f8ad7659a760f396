// The rows of a tile of attention and what all its kernels do with them: where a row's operands stand, and how splits
// are merged.
#pragma once

#include "attention.h"
#include "cuda.cuh"
#include "kv.cuh"
#include "ptx.cuh"

namespace cria::cuda {

// Scores are kept in units of log2, so that exp is one instruction.
constexpr float kLog2OfE = 0x1.715476p+0f;
constexpr float kNoScore = -INFINITY;

// Rows of a tile at most: 128 whole, which four warps share out; 16 where splits are computed apart, one mma high, for
// then memory is the bound.
constexpr int kWholeRows = 128, kSplitRows = 16;

inline __host__ __device__ int attention_group_queries(int group, bool split) {
  const int rows = split ? kSplitRows : kWholeRows;
  return group < rows ? rows / group : 1;
}

// Those of one kv head: row i is query first_query + i / group, and head i % group of the kv head's.
struct AttentionRows {
  const Attention& op;
  int tile, kv_head, group;
  AttentionTile cut;
  BatchSequence sequence;

  __device__ AttentionRows(const Attention& op, int tile, int kv_head)
      : op(op),
        tile(tile),
        kv_head(kv_head),
        group(op.heads / op.cache.kv_heads),
        cut(op.tiles[tile]),
        sequence(op.batch.sequences[cut.sequence]) {}

  __device__ int count() const { return (cut.end_query - cut.first_query) * group; }
  __device__ int head(int row) const { return kv_head * group + row % group; }
  __device__ std::int64_t token(int row) const { return sequence.first + cut.first_query + row / group; }

  // How many keys a row sees. Of rows that are not there: none.
  __device__ int keys(int row) const { return row < count() ? sequence.past + cut.first_query + row / group + 1 : 0; }

  __device__ const float* q(int row) const { return op.q + token(row) * op.q_stride + head(row) * op.cache.head_dim; }
  __device__ float* out(int row) const { return op.out + (token(row) * op.heads + head(row)) * op.cache.head_dim; }
  __device__ float* partial(int row, int split) const {
    const std::int64_t at = static_cast<std::int64_t>(split) * op.partial_rows + cut.partial + row / group;
    return op.partials + (at * op.heads + head(row)) * (2 + op.cache.head_dim);
  }
  __device__ const std::int32_t* blocks() const { return op.batch.blocks + sequence.table; }
};

// exp2 is of differences to the maximum: where there is no score yet, to 0, for -infinity less itself is NaN.
__device__ inline float score_base(float m) { return m == kNoScore ? 0.0f : m; }

// Two splits of a row become one: m and l as they are then, and what the o of each is multiplied by.
struct MergedSplits {
  float m, l, a, b;

  __device__ MergedSplits(float m1, float l1, float m2, float l2) : m(fmaxf(m1, m2)) {
    const float base = score_base(m);
    a = exp2_approx(m1 - base);
    b = exp2_approx(m2 - base);
    l = fmaf(l1, a, l2 * b);
  }
  __device__ float merge(float o1, float o2) const { return fmaf(o1, a, o2 * b); }
};

}  // namespace cria::cuda
