// A warp a row. The running sums are one lane's, in the candidates' order: at most 64 additions that follow one
// another, 256 cycles, less than a tree's shuffles would take, and an order that a test can repeat.
#include "exp.cuh"
#include "four.cuh"
#include "launch.cuh"
#include "philox.cuh"
#include "reduce.cuh"
#include "sample.h"

namespace cria::cuda {
namespace {

constexpr int kLanes = 32;

struct Shared {
  float mass[kMaxTopK];  // of the candidates up to each one, with that of the best being 1
};

// Uniform in [0, 1), in steps of 2^-24.
__device__ float uniform(std::uint64_t seed, std::int32_t position) {
  const uint4 counter = make_uint4(static_cast<std::uint32_t>(position), 0, 0, 0);
  const uint2 key = make_uint2(static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return static_cast<float>(philox(counter, key).x >> 8) * 0x1p-24f;
}

// The first candidate that `holds` is true of; there is one.
template <class Holds>
__device__ int first_candidate(int k, Holds holds) {
  for (int first = 0;; first += kLanes) {
    const int i = first + threadIdx.x;
    const unsigned found = __ballot_sync(kAllLanes, i < k && holds(i));
    if (found != 0) return first + __ffs(found) - 1;
  }
}

// Leaves the running sums of softmax's numerators, softmax being free of a common factor.
__device__ void add_up(const Candidate* candidates, int k, float temperature, float (&mass)[kMaxTopK]) {
  const float best = candidates[0].logit;
  for (int i = threadIdx.x; i < k; i += kLanes) mass[i] = exp_f32((candidates[i].logit - best) / temperature);
  __syncwarp();
  if (threadIdx.x == 0) {
    for (int i = 1; i < k; ++i) mass[i] += mass[i - 1];
  }
  __syncwarp();
}

__global__ void __launch_bounds__(kLanes) sample_kernel(Sample op) {
  const int row = blockIdx.x;
  if (row >= *op.rows.count) return;
  const Candidate* candidates = row_of(op.candidates, row, op.k);
  const Sampling how = op.sampling[row];
  int chosen = 0;
  // Of an infinite logit, which no other can be weighed against, the first is the choice as well.
  if (how.temperature != 0.0f && fabsf(candidates[0].logit) < INFINITY) {
    auto& mass = shared_memory<Shared>().mass;
    add_up(candidates, op.k, how.temperature, mass);
    // The fewest that have top_p of all; then the one in whose share u falls. u is at most 1 - 2^-24, so the product
    // is below the last sum, rounded too.
    const float least = how.top_p * mass[op.k - 1];
    const int last = first_candidate(op.k, [&](int i) { return mass[i] >= least; });
    const float drawn = uniform(how.seed, op.positions[row]) * mass[last];
    chosen = first_candidate(op.k, [&](int i) { return mass[i] > drawn; });
  }
  if (threadIdx.x == 0) op.tokens[row] = candidates[chosen].token;
}

}  // namespace

Status sample(const Sample& op, Stream stream) {
  return launch(sample_kernel, dim3(op.rows.capacity), kLanes, sizeof(Shared), stream, op);
}

}  // namespace cria::cuda
