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

// Leaves the running sums of softmax's numerators, softmax being free of a common factor. Sums from before are written
// over without a barrier: a lane has read its own indices of them alone, and the last one, on which its vote hung.
__device__ void add_up(const Candidate* candidates, int count, float temperature, float (&mass)[kMaxTopK]) {
  const float best = candidates[0].logit;
  for (int i = threadIdx.x; i < count; i += kLanes) mass[i] = exp_f32((candidates[i].logit - best) / temperature);
  __syncwarp();
  if (threadIdx.x == 0) {
    for (int i = 1; i < count; ++i) mass[i] += mass[i - 1];
  }
  __syncwarp();
}

// The candidate of a row that is drawn. Its best logit is finite.
__device__ int draw(const Candidate* candidates, int k, const Sampling& how, std::int32_t position,
                    float (&mass)[kMaxTopK]) {
  int count = k;
  if (how.top_p < 1.0f) {
    add_up(candidates, k, 1.0f, mass);
    const float least = how.top_p * mass[k - 1];
    count = 1 + first_candidate(k, [&](int i) { return mass[i] >= least; });
  }
  add_up(candidates, count, how.temperature, mass);
  // At most 1 - 2^-24 of the last sum: rounded, too, it is below it.
  const float drawn = uniform(how.seed, position) * mass[count - 1];
  return first_candidate(count, [&](int i) { return mass[i] > drawn; });
}

__global__ void __launch_bounds__(kLanes) sample_kernel(Sample op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x;
  if (row >= *op.rows.count) return;
  const Candidate* candidates = row_of(op.candidates, row, op.k);
  const Sampling how = op.sampling[row];
  int chosen = 0;
  // Against an infinite logit no other can be weighed: of such rows, too, the first is taken.
  if (how.temperature != 0.0f && fabsf(candidates[0].logit) < INFINITY) {
    chosen = draw(candidates, op.k, how, op.positions[row], shared_memory<Shared>().mass);
  }
  if (threadIdx.x == 0) op.tokens[row] = candidates[chosen].token;
}

}  // namespace

Status sample(const Sample& op, Stream stream) {
  return launch(sample_kernel, dim3(op.rows.capacity), kLanes, sizeof(Shared), stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
