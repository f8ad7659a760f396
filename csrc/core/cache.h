// The KV cache on a device: its shape, and that it exists. How it lies in memory is the backend's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../cria.h"

namespace cria {

struct CacheShape {
  cria_type key_type, value_type;  // f32, f16 or q8_0 each
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
  // Of one block, K and V of all layers.
  virtual std::size_t block_bytes() const = 0;
};

// Slots to be moved: every slot is in the cache, none is written twice, and none is read after it was written.
struct CacheMove {
  std::span<const std::int32_t> from, to;  // of the same length
  std::int32_t shift;                      // of the keys, in positions
  const cria_rope_options* rope;           // null where shift is 0
};

// Throws CRIA_ERROR_ARGUMENT where they are not such slots, or `rope`, which is there where `shift` is not 0, does not
// fit the cache.
CacheMove check_move(const Cache& cache, std::size_t count, const std::int32_t* from, const std::int32_t* to,
                     std::int32_t shift, const cria_rope_options* rope);

// The blocks; throws CRIA_ERROR_ARGUMENT where one is not the cache's, or where they are `distinct` and one comes
// twice.
std::span<const std::int32_t> check_blocks(const Cache& cache, std::size_t count, const std::int32_t* blocks,
                                           bool distinct);

}  // namespace cria
