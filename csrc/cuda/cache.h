// The CUDA backend's KV cache: cuda/kv.h's layout, one arena a layer.
#pragma once

#include <atomic>

#include "../../cuda/kv.h"
#include "../core/cache.h"
#include "../core/checked.h"
#include "device.h"

namespace cria::cuda {

class KvCache final : public Cache {
 public:
  KvCache(const DevicePtr& device, const CacheShape& shape, std::size_t blocks)
      : Cache(shape, blocks),
        k_bytes_(kv_side_bytes(shape.key_type, shape.head_dim)),
        head_bytes_(k_bytes_ + kv_side_bytes(shape.value_type, shape.head_dim)),
        layer_bytes_(checked_product({blocks, shape.kv_heads, head_bytes_})),
        memory_(device, checked_product({shape.layers, layer_bytes_})),
        id(next_id()) {}

  KvLayer layer(std::size_t index) const {
    std::uint8_t* k = memory_.data() + index * layer_bytes_;
    return {{k, shape.key_type},
            {k + k_bytes_, shape.value_type},
            static_cast<int>(shape.kv_heads),
            static_cast<int>(shape.head_dim),
            static_cast<std::int64_t>(head_bytes_)};
  }
  std::size_t k_bytes() const { return k_bytes_; }
  std::size_t head_bytes() const { return head_bytes_; }
  std::size_t layer_bytes() const { return layer_bytes_; }
  std::size_t bytes() const override { return memory_.bytes(); }
  std::size_t block_bytes() const override { return shape.layers * shape.kv_heads * head_bytes_; }

 private:
  static std::uint64_t next_id() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
  }

  std::size_t k_bytes_, head_bytes_, layer_bytes_;  // of K of a head's block, of K and V, and of a layer
  DeviceMemory memory_;

 public:
  const std::uint64_t id;  // what captured graphs know it by: an address may come again
};

}  // namespace cria::cuda
