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
        head_bytes_(kv_head_bytes(shape.type, shape.head_dim)),
        layer_bytes_(checked_product({blocks, shape.kv_heads, 2, head_bytes_})),
        memory_(checked_product({shape.layers, layer_bytes_})) {}

  KvLayer layer(std::size_t index) const {
    std::uint8_t* k = memory_.data() + index * layer_bytes_;
    return {k, k + head_bytes_, shape.type, shape.kv_heads, shape.head_dim, blocks, kGroupBits, 2 * head_bytes_};
  }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::size_t block_bytes() const override { return shape.layers * (layer_bytes_ / blocks); }

 private:
  static constexpr unsigned kGroupBits = 5;

  std::size_t head_bytes_, layer_bytes_;
  Memory memory_;
};

}  // namespace cria::cpu
