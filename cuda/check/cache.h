// A KV cache twice, as the CPU lays it out and as the device does.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../../csrc/cpu/kv.h"
#include "checks.h"

namespace cria::cuda::check {

struct CacheShape {
  cria_type k, v;
  std::size_t layers, blocks, kv_heads, head_dim;

  std::size_t k_bytes() const { return cpu::kv_head_bytes(k, head_dim); }
  std::size_t head_bytes() const { return k_bytes() + cpu::kv_head_bytes(v, head_dim); }
  std::size_t layer_bytes() const { return blocks * kv_heads * head_bytes(); }
};

std::string describe(const CacheShape& shape);

// The CPU's groups are of one block here, so both arenas are [layer][block][kv_head][K, V] and of one size; what
// differs is K, whose elements stand [head_dim][16] there and [16][head_dim] here.
class TwinCache {
 public:
  // All of the host's and the device's places hold the same normal numbers, as rope.h writes them.
  TwinCache(Checks& checks, const CacheShape& shape);

  const CacheShape shape;
  std::vector<std::uint8_t> host;
  DeviceArray<std::uint8_t> device;

  cpu::KvLayer host_layer(std::size_t layer = 0);
  KvLayer device_layer() const;  // of layer 0

  // Makes K or V of the token at `place` of a block of layer 0 NaN, in all heads, on the host.
  void poison_key(std::size_t block, std::size_t place);
  void poison_value(std::size_t block, std::size_t place);

  std::vector<std::uint8_t> host_as_device() const;  // what the host holds, in the device's layout
  void upload(Checks& checks) const;                 // what the host holds, to the device
};

// Every pair of types that K and V may have.
std::vector<std::pair<cria_type, cria_type>> cache_types();

}  // namespace cria::cuda::check
