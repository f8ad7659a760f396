// The CPU backend's KV cache: kv.h's layout, one stretch of memory for each layer's K and V.
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
        side_bytes_(checked_product({blocks, shape.kv_heads, kv_head_bytes(shape.type, shape.head_dim)})),
        memory_(checked_product({shape.layers, 2, side_bytes_})) {}

  KvLayer layer(std::size_t index) const {
    std::uint8_t* k = memory_.data() + 2 * index * side_bytes_;
    return {k, k + side_bytes_, shape.type, shape.kv_heads, shape.head_dim};
  }
  std::size_t bytes() const override { return memory_.bytes(); }

 private:
  std::size_t side_bytes_ = 0;  // K, or V, of one layer
  Memory memory_;
};

}  // namespace cria::cpu
