// The KV cache on the device: where a head's block stands, and a token's key or value written to it.
#pragma once

#include "cuda.cuh"
#include "kv.h"
#include "quantize_block.cuh"

namespace cria::cuda {

constexpr int kKvGroup = 32;  // dimensions that share a scale in q8_0, and lanes of a warp

// K or V, as `side` says, of one head of one block.
__device__ inline std::uint8_t* kv_head(const KvLayer& cache, const KvSide& side, int block, int head) {
  return side.data + (static_cast<std::int64_t>(block) * cache.kv_heads + head) * cache.head_step;
}

// The scales of a q8_0 block: that of dimension d of the token at `place` is [d / kKvGroup * kKvBlock + place].
__device__ inline std::uint16_t* kv_scales(std::uint8_t* block, int head_dim) {
  return reinterpret_cast<std::uint16_t*>(block + head_dim * kKvBlock);
}

// Bytes of a q8_0 block, as kv_side_bytes (kv.h) has them.
__device__ inline int kv_q8_bytes(int head_dim) {
  return head_dim * kKvBlock + (head_dim + kKvGroup - 1) / kKvGroup * kKvBlock * 2;
}

// Bytes of a token's row, without its scales: a multiple of 8, as head_dim is.
__device__ inline int kv_row_bytes(cria_type type, int head_dim) {
  return head_dim * (type == CRIA_TYPE_F32 ? 4 : type == CRIA_TYPE_F16 ? 2 : 1);
}

// A token's place in a head's block of K or V.
struct KvPlace {
  cria_type type;
  std::uint8_t* block;
  int head_dim, place;

  // Dimension d, widened, which is exact.
  __device__ float read(int d) const {
    const int element = place * head_dim + d;
    if (type == CRIA_TYPE_F32) return reinterpret_cast<const float*>(block)[element];
    if (type == CRIA_TYPE_F16) return __half2float(reinterpret_cast<const __half*>(block)[element]);
    const std::uint16_t scale = kv_scales(block, head_dim)[d / kKvGroup * kKvBlock + place];
    return static_cast<float>(reinterpret_cast<const std::int8_t*>(block)[element]) *
           __half2float(__ushort_as_half(scale));
  }

  // Writes dimensions [first, min(first + 32, end)), one a lane, in the type. `first` is a multiple of 32; lanes from
  // `end` on hold 0, and in q8_0 `end` is the group's. Every lane of the warp takes part.
  __device__ void write(int first, int end, float x) const {
    const int lane = threadIdx.x % 32, d = first + lane;
    const int element = place * head_dim + d;
    if (type == CRIA_TYPE_Q8_0) {
      const QuantLane q = quantize_lane(x);
      if (d < end) reinterpret_cast<std::int8_t*>(block)[element] = q.quant;
      const int scale = first / kKvGroup * kKvBlock + place;
      if (lane == 0) kv_scales(block, head_dim)[scale] = __half_as_ushort(__float2half_rn(q.scale));
    } else if (d < end) {
      if (type == CRIA_TYPE_F32) {
        reinterpret_cast<float*>(block)[element] = x;
      } else {
        reinterpret_cast<__half*>(block)[element] = __float2half_rn(x);
      }
    }
  }
};

}  // namespace cria::cuda
