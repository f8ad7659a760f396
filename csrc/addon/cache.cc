#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "args.h"
#include "exports.h"
#include "work.h"

namespace cria::addon {
namespace {

Napi::Value cache_create(const Napi::CallbackInfo& info) {
  cria_cache_options options = get_cache_shape(info[1], "shape");
  options.blocks = get_size(info[2], "blocks");
  cria_cache* cache = nullptr;
  check(info.Env(), cria_cache_create(get_handle<cria_device>(info[0], "device").get(), &options, &cache));
  return make_handle(info.Env(), cache);
}

Napi::Value cache_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(cria_cache_bytes(get_handle<cria_cache>(info[0], "cache").get())));
}

using Int32s = std::vector<std::int32_t>;

// The bytes of that many blocks: a block may be so large that no array holds as many as an array can name.
std::size_t blocks_bytes(Napi::Env env, const cria_cache& cache, std::size_t count) {
  std::size_t bytes = 0;
  if (!__builtin_mul_overflow(count, cria_cache_block_bytes(&cache), &bytes)) return bytes;
  throw range_error(env, "blocks: must be few enough for the address space, not " + std::to_string(count));
}

struct CacheRead {
  std::shared_ptr<cria_cache> cache;
  Int32s blocks;
  Napi::Reference<Napi::Value> out;
  std::vector<std::uint8_t> bytes;

  cria_status run() { return cria_cache_read(cache.get(), blocks.size(), blocks.data(), bytes.data(), bytes.size()); }
  // Only now: the array's memory was JavaScript's meanwhile, which may have detached or resized it.
  Napi::Value result(Napi::Env env) const {
    const auto array = get_array<std::uint8_t>(out.Value(), "out");
    require_length(env, "out", array.length, bytes.size());
    std::copy(bytes.begin(), bytes.end(), array.data);
    return env.Undefined();
  }
};

Napi::Value cache_read(const Napi::CallbackInfo& info) {
  const auto cache = get_handle<cria_cache>(info[0], "cache");
  Int32s blocks = copy_int32s(info[1], "blocks");
  const auto out = get_array<std::uint8_t>(info[2], "out");
  require_length(info.Env(), "out", out.length, blocks_bytes(info.Env(), *cache, blocks.size()));
  return Work<CacheRead>::start(info.Env(), {cache, std::move(blocks), Napi::Reference<Napi::Value>::New(info[2], 1),
                                             std::vector<std::uint8_t>(out.length)});
}

struct CacheWrite {
  std::shared_ptr<cria_cache> cache;
  Int32s blocks;
  std::vector<std::uint8_t> bytes;

  cria_status run() const {
    return cria_cache_write(cache.get(), blocks.size(), blocks.data(), bytes.data(), bytes.size());
  }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value cache_write(const Napi::CallbackInfo& info) {
  const auto cache = get_handle<cria_cache>(info[0], "cache");
  Int32s blocks = copy_int32s(info[1], "blocks");
  const auto bytes = get_array<std::uint8_t>(info[2], "bytes");
  require_length(info.Env(), "bytes", bytes.length, blocks_bytes(info.Env(), *cache, blocks.size()));
  return Work<CacheWrite>::start(
      info.Env(), {cache, std::move(blocks), std::vector<std::uint8_t>(bytes.data, bytes.data + bytes.length)});
}

struct CacheMove {
  std::shared_ptr<cria_cache> cache;
  Int32s from, to;
  std::int32_t shift;
  std::optional<RopeCopy> rope;

  cria_status run() const {
    return cria_cache_move(cache.get(), from.size(), from.data(), to.data(), shift, rope ? &rope->get() : nullptr);
  }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value cache_move(const Napi::CallbackInfo& info) {
  const auto cache = get_handle<cria_cache>(info[0], "cache");
  Int32s from = copy_int32s(info[1], "from"), to = copy_int32s(info[2], "to");
  require_length(info.Env(), "to", to.size(), from.size());
  const std::int32_t shift = get_int32(info[3], "shift");
  std::optional<RopeCopy> rope;
  if (shift != 0 || !info[4].IsUndefined()) rope.emplace(info[4], "rope");
  return Work<CacheMove>::start(info.Env(), {cache, std::move(from), std::move(to), shift, std::move(rope)});
}

}  // namespace

void export_cache(Napi::Env env, Napi::Object exports) {
  export_function<cache_create>(env, exports, "cacheCreate");
  export_function<cache_bytes>(env, exports, "cacheBytes");
  export_function<cache_read>(env, exports, "cacheRead");
  export_function<cache_write>(env, exports, "cacheWrite");
  export_function<cache_move>(env, exports, "cacheMove");
}

}  // namespace cria::addon
