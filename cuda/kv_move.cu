// Keys and values moved between slots of the cache (kv_move.h).
//
// A block takes one head of one layer, and its moves eight at a time, a warp each: all eight are read to shared memory
// before one is written, for a token may move to a place that another of them leaves. Slots that were written are not
// read again (csrc/cria.h), so the eights need no order beyond that.
//
//     shared, a warp     K row      V row      scales of K   scales of V
//                        as it is stored       q8_0 alone
//
// Bound by memory's latency, eight rows a block in flight; the blocks, 1,024 in a 7B model, hide it.
#include "kv.cuh"
#include "kv_move.h"
#include "launch.cuh"
#include "rope_turn.cuh"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;  // at 64 registers four blocks an SM: at 2,048 threads the kernel would spill
constexpr int kWarps = kThreads / 32;
constexpr int kMaxHeadDim = 256;

// A token's row of K or V.
struct Row {
  uint2 data[kMaxHeadDim * 4 / 8];
  std::uint16_t scales[kMaxHeadDim / kKvGroup];
};

struct Shared {
  Row k[kWarps], v[kWarps];
};

// The op, with all that a warp needs to know of its head.
struct Head {
  const KvLayer& cache;
  std::int64_t layer;  // bytes from layer 0
  int head;

  __device__ std::uint8_t* block(const KvSide& side, int slot) const {
    return kv_head(cache, side, slot / kKvBlock, head) + layer;
  }
};

__device__ int row_words(const KvSide& side, int head_dim) { return kv_row_bytes(side.type, head_dim) / 8; }

__device__ int row_scales(const KvSide& side, int head_dim) {
  return side.type == CRIA_TYPE_Q8_0 ? (head_dim + kKvGroup - 1) / kKvGroup : 0;
}

__device__ void read_row(const Head& head, const KvSide& side, int slot, Row& row) {
  const int lane = threadIdx.x % 32, dim = head.cache.head_dim, place = slot % kKvBlock;
  std::uint8_t* block = head.block(side, slot);
  const int words = row_words(side, dim);
  const uint2* from = reinterpret_cast<const uint2*>(block) + place * words;
  for (int i = lane; i < words; i += 32) row.data[i] = from[i];
  if (lane < row_scales(side, dim)) row.scales[lane] = kv_scales(block, dim)[lane * kKvBlock + place];
}

__device__ void write_row(const Head& head, const KvSide& side, const Row& row, int slot) {
  const int lane = threadIdx.x % 32, dim = head.cache.head_dim, place = slot % kKvBlock;
  std::uint8_t* block = head.block(side, slot);
  const int words = row_words(side, dim);
  uint2* to = reinterpret_cast<uint2*>(block) + place * words;
  for (int i = lane; i < words; i += 32) to[i] = row.data[i];
  if (lane < row_scales(side, dim)) kv_scales(block, dim)[lane * kKvBlock + place] = row.scales[lane];
}

__device__ float element(cria_type type, const Row& row, int d) {
  if (type == CRIA_TYPE_F32) return reinterpret_cast<const float*>(row.data)[d];
  if (type == CRIA_TYPE_F16) return __half2float(reinterpret_cast<const __half*>(row.data)[d]);
  const float scale = __half2float(__ushort_as_half(row.scales[d / kKvGroup]));
  return static_cast<float>(reinterpret_cast<const std::int8_t*>(row.data)[d]) * scale;
}

// Writes the dimensions that turn once more: in q8_0 whole groups of which one turns.
__device__ void write_turned(const Head& head, const KvMove& op, const Row& row, int slot) {
  const KvSide& side = head.cache.k;
  const int dim = head.cache.head_dim;
  const KvPlace place = {side.type, head.block(side, slot), dim, slot % kKvBlock};
  const RopePairs pairs = {op.rotary_dim, op.halves};
  const int end = side.type == CRIA_TYPE_Q8_0 ? dim : op.rotary_dim;  // of the last group
  const auto at = [&](int d) { return element(side.type, row, d); };
  for (int first = 0; first < op.rotary_dim; first += kKvGroup) {
    const int d = first + threadIdx.x % 32;
    const float x = d < end ? rope_turned(pairs, d, op.cosine, op.sine, at) : 0.0f;
    place.write(first, end, x);
  }
}

__global__ void __launch_bounds__(kThreads, 4) kv_move_kernel(KvMove op) {
  grid_dependency_launch();
  grid_dependency_wait();
  Shared& shared = shared_memory<Shared>();
  const int warp = threadIdx.x / 32;
  Row &k = shared.k[warp], &v = shared.v[warp];
  const Head head = {op.cache, blockIdx.y * op.layer_step, static_cast<int>(blockIdx.x)};
  for (int first = 0; first < op.count; first += kWarps) {
    const int move = first + warp;
    const bool moves = move < op.count;
    if (moves) {
      read_row(head, op.cache.k, op.from[move], k);
      read_row(head, op.cache.v, op.from[move], v);
    }
    __syncthreads();
    if (!moves) return;
    write_row(head, op.cache.k, k, op.to[move]);
    write_row(head, op.cache.v, v, op.to[move]);
    __syncwarp();  // a lane's row is written again by others
    write_turned(head, op, k, op.to[move]);
    __syncwarp();
  }
}

}  // namespace

Status kv_move(const KvMove& op, Stream stream) {
  if (op.count == 0) return 0;
  const dim3 grid(op.cache.kv_heads, op.layers);
  return launch(kv_move_kernel, grid, kThreads, sizeof(Shared), stream, op, Overlap::kYes);
}

}  // namespace cria::cuda
