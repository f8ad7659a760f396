// The addon's entry: one instance in each JavaScript environment, nothing global but the count of handles.
#include <napi.h>

#include <string>
#include <string_view>

#include "args.h"
#include "errors.h"
#include "exports.h"

namespace cria::addon {
namespace {

Napi::Value set_error_class(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw type_error(info.Env(), "errorClass: must be a class");
  info.Env().GetInstanceData<Instance>()->error_class = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value abi_version(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), CRIA_ABI_VERSION); }

// Files of two versions may come to lie beside each other. What their structs hold is then not known.
void require_same_abi(Napi::Env env) {
  if (cria_abi_version() == CRIA_ABI_VERSION) return;
  throw Napi::Error::New(env, "libcria beside it is of version " + std::to_string(cria_abi_version()) +
                                  " of the C ABI, and it was built for " + std::to_string(CRIA_ABI_VERSION));
}

template <class... Kinds>
struct KindList {};
constexpr KindList<cria_device, cria_tensor, cria_cache, cria_program, cria_cancel, cria_file> kKinds;

// Which kind a handle is does not matter here, only that it is one.
template <class... Kinds>
bool is_handle(const Napi::Value& value, KindList<Kinds...>) {
  bool matches = false;
  const auto try_kind = [&](const napi_type_tag& tag) {
    if (!matches) check(value.Env(), napi_check_object_type_tag(value.Env(), value, &tag, &matches));
  };
  (try_kind(HandleKind<Kinds>::tag), ...);
  return matches;
}

Napi::Value free(const Napi::CallbackInfo& info) {
  const Napi::Value handle = info[0];
  if (!handle.IsObject() || !is_handle(handle, kKinds)) {
    throw type_error(info.Env(), "handle: must be a handle of this addon");
  }
  void* slot = nullptr;
  check(info.Env(), napi_unwrap(info.Env(), handle, &slot));
  static_cast<Slot*>(slot)->free(info.Env());
  return info.Env().Undefined();
}

template <class... Kinds>
Napi::Value counts_of(Napi::Env env, KindList<Kinds...>) {
  const auto counts = Napi::Object::New(env);
  const auto set = [&](std::string_view name, std::int64_t count) {
    counts.Set(std::string(name.substr(2)), Napi::Number::New(env, static_cast<double>(count)));  // without its "a "
  };
  (set(HandleKind<Kinds>::name, live_handles<Kinds>.load(std::memory_order_relaxed)), ...);
  return counts;
}

Napi::Value handle_counts(const Napi::CallbackInfo& info) { return counts_of(info.Env(), kKinds); }

}  // namespace

Napi::Object init(Napi::Env env, Napi::Object exports) {
  require_same_abi(env);
  env.SetInstanceData(new Instance);
  export_function<abi_version>(env, exports, "abiVersion");
  export_function<set_error_class>(env, exports, "setErrorClass");
  export_function<free>(env, exports, "free");
  export_function<handle_counts>(env, exports, "handleCounts");
  export_device(env, exports);
  export_tensor(env, exports);
  export_weights(env, exports);
  export_cache(env, exports);
  export_program(env, exports);
  export_kernels(env, exports);
  return exports;
}

NODE_API_MODULE(cria, init)

}  // namespace cria::addon
