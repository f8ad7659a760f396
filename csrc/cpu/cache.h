// The CPU backend's KV cache: kv.h's layout, one arena a layer.
#pragma once

#include "../core/cache.h"
#include "../core/checked.h"
#include "kv.h"
#include "memory.h"

namespace cria::cpu {

class KvCache final : public Cache {
 public:
  KvCache(const CacheShape& shape, std::size_t blocks)
      : Cache(shape, blocks),
        k_bytes_(kv_head_bytes(shape.key_type, shape.head_dim)),
        head_bytes_(k_bytes_ + kv_head_bytes(shape.value_type, shape.head_dim)),
        layer_bytes_(checked_product({blocks, shape.kv_heads, head_bytes_})),
        memory_(checked_product({shape.layers, layer_bytes_})) {}

  KvLayer layer(std::size_t index) const {
    std::uint8_t* k = memory_.data() + index * layer_bytes_;
    return {{k, shape.key_type, head_bytes_},
            {k + k_bytes_, shape.value_type, head_bytes_},
            shape.kv_heads,
            shape.head_dim,
            blocks,
            kGroupBits};
  }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::size_t block_bytes() const override { return shape.layers * (layer_bytes_ / blocks); }

 private:
  static constexpr unsigned kGroupBits = 5;

  std::size_t k_bytes_, head_bytes_, layer_bytes_;  // of K of a head's block, of K and V, and of a layer
  Memory memory_;
};

}  // namespace cria::cpu
