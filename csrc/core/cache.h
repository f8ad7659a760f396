// The KV cache on a device: its shape, and that it exists. How it lies in memory is the backend's.
#pragma once

#include <cstddef>

#include "../cria.h"

namespace cria {

struct CacheShape {
  cria_type type;  // f32 or f16
  std::size_t layers, kv_heads, head_dim;

  bool operator==(const CacheShape&) const = default;
};

class Cache {
 public:
  Cache(const CacheShape& shape, std::size_t blocks) : shape(shape), blocks(blocks) {}
  virtual ~Cache() = default;
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  const CacheShape shape;
  const std::size_t blocks;  // of CRIA_KV_BLOCK tokens, in each layer

  virtual std::size_t bytes() const = 0;
};

}  // namespace cria
