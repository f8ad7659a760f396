// A warp takes a query and a head. Each half of it has the sixteen sums of a score that csrc/cpu/reduce.h asks for, so
// it takes two keys at a time; a lane then has every 32nd dimension of the result.
//
// Bound by launch at a few rows: a prefix is ten keys or so, which all rows of a head read from L2.
#include "../csrc/core/prefix.h"
#include "exp.cuh"
#include "launch.cuh"
#include "prefix_attention.h"
#include "reduce.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;  // heads of a row
constexpr int kSums = 16;              // of a score, and of the softmax

struct Scores {
  float p[kWarps][kMaxPrefix];
};

// The scores of the prefix's keys, and then p; of both halves of the warp their sum.
__device__ float softmax(const PrefixAttention& op, const float* q, const float* keys, float* p) {
  const int lane = threadIdx.x % kSums, half = threadIdx.x % 32 / kSums;
  const int step = op.kv_heads * op.head_dim;
  // Both halves go as often round, for they add up together.
  for (int first = 0; first < op.length; first += 2) {
    const int j = first + half;
    float sum = 0.0f;
    if (j < op.length) {
      for (int d = lane; d < op.head_dim; d += kSums)
        sum = fmaf(q[d], keys[static_cast<std::int64_t>(j) * step + d], sum);
    }
    sum = warp_reduce_add<kSums>(sum);
    if (j < op.length && lane == 0) p[j] = sum * op.scale;
  }
  __syncwarp();
  float most = -INFINITY;
  for (int j = threadIdx.x % 32; j < op.length; j += 32) most = fmaxf(most, p[j]);
  most = warp_reduce_max(most);
  // A lane writes the scores that it alone has read.
  for (int j = threadIdx.x % 32; j < op.length; j += 32) p[j] = exp_f32(p[j] - most);
  __syncwarp();
  float sum = 0.0f;
  for (int j = lane; j < op.length; j += kSums) sum += p[j];
  return warp_reduce_add<kSums>(sum);
}

__global__ void __launch_bounds__(kThreads) prefix_attention_kernel(PrefixAttention op) {
  Scores& scores = shared_memory<Scores>();
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x, warp = threadIdx.x / 32;
  if (row >= *op.rows.count) return;
  const int head = blockIdx.y * kWarps + warp;
  if (head >= op.heads) return;

  const int kv_head = head / (op.heads / op.kv_heads), step = op.kv_heads * op.head_dim;
  const float* q = op.q + row * op.q_stride + head * op.head_dim;
  float* out = op.out + (static_cast<std::int64_t>(row) * op.heads + head) * op.head_dim;
  float* p = scores.p[warp];
  const float w = op.gates[head] / softmax(op, q, op.keys + kv_head * op.head_dim, p);
  const float* values = op.values + kv_head * op.head_dim;
  for (int d = threadIdx.x % 32; d < op.head_dim; d += 32) {
    float o = 0.0f;
    for (int j = 0; j < op.length; ++j) o = fmaf(p[j], values[static_cast<std::int64_t>(j) * step + d], o);
    out[d] = fmaf(w, o, out[d]);
  }
}

}  // namespace

Status prefix_attention(const PrefixAttention& op, Stream stream) {
  const dim3 grid(op.rows.capacity, (op.heads + kWarps - 1) / kWarps);
  return launch(prefix_attention_kernel, grid, kThreads, sizeof(Scores), stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
