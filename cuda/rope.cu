// Rotary position embedding and the write of k and v to the cache (rope.h).
//
// A warp takes a head of a row. Heads of q and k it turns in pairs, in place; those of k and v it then writes in groups
// of 32 dimensions, a lane each, which is what a scale of q8_0 spans. So a store of f16 fills 64 bytes, two sectors,
// and nothing is staged.
//
// Bound by launch at a few rows, by memory in a prompt: it reads qkv once, and writes q and k back and the cache.
#include "kv.cuh"
#include "launch.cuh"
#include "rope.h"
#include "rope_turn.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;  // 8 heads
constexpr int kWarps = kThreads / 32;

__global__ void __launch_bounds__(kThreads) rope_angles_kernel(RopeAngles op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x;
  if (row >= *op.rows.count) return;
  const int i = blockIdx.y * kThreads + threadIdx.x;
  if (i >= op.pairs) return;
  const double angle = op.batch.positions[row] * op.frequencies[i];
  const std::int64_t at = static_cast<std::int64_t>(row) * op.pairs + i;
  op.cosine[at] = static_cast<float>(cos(angle) * op.magnitude);
  op.sine[at] = static_cast<float>(sin(angle) * op.magnitude);
}

__device__ void turn_head(const RopePairs& pairs, float* head, const float* cosine, const float* sine) {
  for (int i = threadIdx.x % 32; i < pairs.rotary_dim / 2; i += 32) {
    float &a = head[pairs.first(i)], &b = head[pairs.second(i)];
    const float2 turned = rope_turn(a, b, cosine[i], sine[i]);
    a = turned.x;
    b = turned.y;
  }
}

// Writes `head` to the row's slot in `side`.
__device__ void write_head(const Rope& op, int row, const KvSide& side, int kv_head_index, const float* head) {
  const BatchSequence sequence = op.batch.sequences[op.batch.sequence_of[row]];
  const int index = sequence.past + row - sequence.first;
  const int block_index = op.batch.blocks[sequence.table + index / kKvBlock];
  const int head_dim = op.cache.head_dim;
  const KvPlace place = {side.type, kv_head(op.cache, side, block_index, kv_head_index), head_dim, index % kKvBlock};
  for (int first = 0; first < head_dim; first += kKvGroup) {
    const int d = first + threadIdx.x % 32;
    place.write(first, head_dim, d < head_dim ? head[d] : 0.0f);
  }
}

__global__ void __launch_bounds__(kThreads) rope_kernel(Rope op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x;
  if (row >= *op.rows.count) return;
  const int kv_heads = op.cache.kv_heads, all_heads = op.heads + 2 * kv_heads;
  const int h = blockIdx.y * kWarps + threadIdx.x / 32;  // q's heads, then k's, then v's
  if (h >= all_heads) return;

  float* head = op.qkv + (static_cast<std::int64_t>(row) * all_heads + h) * op.cache.head_dim;
  const std::int64_t angles = static_cast<std::int64_t>(row) * (op.rotary_dim / 2);
  const float *cosine = op.cosine + angles, *sine = op.sine + angles;
  const int k_head = h - op.heads, v_head = k_head - kv_heads;
  if (v_head < 0) turn_head({op.rotary_dim, op.halves}, head, cosine, sine);
  // A lane writes what others have turned.
  __syncwarp();
  if (v_head >= 0) {
    write_head(op, row, op.cache.v, v_head, head);
  } else if (k_head >= 0) {
    write_head(op, row, op.cache.k, k_head, head);
  }
}

unsigned blocks_of(int count, int each) { return static_cast<unsigned>((count + each - 1) / each); }

}  // namespace

Status rope_angles(const RopeAngles& op, Stream stream) {
  const dim3 grid(op.rows.capacity, blocks_of(op.pairs, kThreads));
  return launch(rope_angles_kernel, grid, kThreads, /*shared=*/0, stream, op, Overlap::kYes);
}

Status rope(const Rope& op, Stream stream) {
  const dim3 grid(op.rows.capacity, blocks_of(op.heads + 2 * op.cache.kv_heads, kWarps));
  return launch(rope_kernel, grid, kThreads, /*shared=*/0, stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
