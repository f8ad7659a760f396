// A logit and its token make one key, whose order as an integer is the op's: no two are alike, so the k greatest keys
// are one set, and finding the k-th is enough.
//
//     bit 63                     32 31                       0
//     | the logit, mapped in order |  ~token, so that of equal |
//     |  to unsigned integers      |  logits the lower id wins |
//
// A block of threads holds 2,048 keys in registers, eight a thread. From the top bit down it tries to set each bit of a
// bound, and keeps it where at least k keys reach it: one count, one barrier a bit. It ends as soon as exactly k do, in
// logits about 17 bits down, some 2,500 cycles whatever k is. A warp's own lists would take a step for each of the k.
//
// A vocabulary is cut in parts of 2,048, a block of threads each, for one multiprocessor alone would need 1,100 cycles
// to read 32,000 logits and 4,500 to read 128,256; a second launch takes the k greatest of the parts' candidates.
#include "four.cuh"
#include "launch.cuh"
#include "reduce.cuh"
#include "sample.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kHeld = kTopKPart / kThreads;  // keys of a thread: 16 registers

using Key = std::uint64_t;
constexpr Key kNone = 0;  // below the key of every logit

struct Shared {
  Key best[kMaxTopK];    // in no order
  int count[2][kWarps];  // of the even bits and of the odd ones: a bit's counts are read while the next one's come
  int found;
};

// A candidate that is not there has the token -1.
__device__ Key key_of(Candidate candidate) {
  if (candidate.token < 0) return kNone;
  const float logit = candidate.logit;
  std::uint32_t bits = __float_as_uint(logit);
  if (logit != logit) bits = 0xff800000;  // NaN counts as -infinity
  if (logit == 0.0f) bits = 0;            // and -0 as 0
  const std::uint32_t ordered = bits >> 31 != 0 ? ~bits : bits | 0x80000000;
  return static_cast<Key>(ordered) << 32 | ~static_cast<std::uint32_t>(candidate.token);
}

// Of kNone, one that is not there.
__device__ Candidate candidate_of(Key key) {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  const std::uint32_t bits = ordered >> 31 != 0 ? ordered & 0x7fffffff : ~ordered;
  return {__uint_as_float(bits), static_cast<std::int32_t>(~static_cast<std::uint32_t>(key))};
}

// Where candidates come from: the logits of a part, or those that the parts left.
struct Logits {
  const float* logits;
  int first, count;
  __device__ Candidate operator[](int i) const {
    return i < count ? Candidate{logits[first + i], first + i} : Candidate{0.0f, -1};
  }
};
struct Candidates {
  const Candidate* candidates;
  int count;
  __device__ Candidate operator[](int i) const { return i < count ? candidates[i] : Candidate{0.0f, -1}; }
};

// The k-th greatest of the block's keys, or a bound that k keys reach; 0 where there are fewer than k.
template <int kKeys>
__device__ Key bound_of(const Key (&keys)[kKeys], int k, Shared& shared) {
  Key bound = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const Key trial = bound | Key{1} << bit;
    int count = 0;
#pragma unroll
    for (int i = 0; i < kKeys; ++i) count += keys[i] >= trial;
    count = block_reduce_add(count, shared.count[bit % 2]);
    if (count >= k) bound = trial;
    if (count == k) break;
  }
  return bound;
}

// Leaves the k greatest keys of `source` in shared.best, with kNone where there are fewer.
template <class Source>
__device__ void find_best(const Source& source, int k, Shared& shared) {
  const int thread = threadIdx.x;
  if (thread < kMaxTopK) shared.best[thread] = kNone;
  for (int first = 0; first < source.count; first += kTopKPart) {
    Candidate candidates[kHeld];  // all loads are under way before the first is looked at
#pragma unroll
    for (int i = 0; i < kHeld; ++i) candidates[i] = source[first + i * kThreads + thread];
    Key keys[kHeld + 1];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) keys[i] = key_of(candidates[i]);
    // The best so far are held again. A thread reads and clears its own: others come to `best` after the next barrier.
    keys[kHeld] = thread < kMaxTopK ? shared.best[thread] : kNone;
    if (thread < kMaxTopK) shared.best[thread] = kNone;
    if (thread == 0) shared.found = 0;

    const Key bound = bound_of(keys, k, shared);
#pragma unroll
    for (int i = 0; i < kHeld + 1; ++i) {
      if (keys[i] >= bound && keys[i] != kNone) shared.best[atomicAdd(&shared.found, 1)] = keys[i];
    }
    __syncthreads();
  }
}

// Writes shared.best in order: a key's place is the number of keys before it.
__device__ void store_in_order(Candidate* out, int k, const Shared& shared) {
  const int thread = threadIdx.x;
  if (thread >= k) return;
  const Key own = shared.best[thread];
  int place = 0;
  for (int i = 0; i < k; ++i) place += shared.best[i] > own || (shared.best[i] == own && i < thread);
  out[place] = candidate_of(own);
}

struct Operands {
  TopK op;
  int parts;
};

__global__ void __launch_bounds__(kThreads) top_k_parts_kernel(Operands operands) {
  grid_dependency_launch();
  grid_dependency_wait();
  const TopK& op = operands.op;
  const int row = blockIdx.x, part = blockIdx.y, parts = operands.parts;
  if (row >= *op.rows.count) return;
  auto& shared = shared_memory<Shared>();
  const int first = part * kTopKPart, left = op.vocabulary - first;
  find_best(Logits{row_of(op.logits, row, op.vocabulary), first, min(left, kTopKPart)}, op.k, shared);
  store_in_order(row_of(parts == 1 ? op.out : op.partial, row * parts + part, op.k), op.k, shared);
}

__global__ void __launch_bounds__(kThreads) top_k_merge_kernel(Operands operands) {
  grid_dependency_launch();
  grid_dependency_wait();
  const TopK& op = operands.op;
  const int row = blockIdx.x, candidates = operands.parts * op.k;
  if (row >= *op.rows.count) return;
  auto& shared = shared_memory<Shared>();
  find_best(Candidates{row_of(op.partial, row, candidates), candidates}, op.k, shared);
  store_in_order(row_of(op.out, row, op.k), op.k, shared);
}

}  // namespace

Status top_k(const TopK& op, Stream stream) {
  const Operands operands = {op, top_k_parts(op.vocabulary)};
  const dim3 grid(op.rows.capacity, operands.parts);
  const Status status = launch(top_k_parts_kernel, grid, kThreads, sizeof(Shared), stream, operands, Overlap::kYes);
  if (status != 0 || operands.parts == 1) return status;
  return launch(top_k_merge_kernel, dim3(op.rows.capacity), kThreads, sizeof(Shared), stream, operands, Overlap::kYes);
}

}  // namespace cria::cuda
