#include "args.h"
#include "exports.h"

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

}  // namespace

void export_cache(Napi::Env env, Napi::Object exports) {
  export_function<cache_create>(env, exports, "cacheCreate");
  export_function<cache_bytes>(env, exports, "cacheBytes");
}

}  // namespace cria::addon
