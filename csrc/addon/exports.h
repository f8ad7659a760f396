// The addon's functions, by file; bindings.d.ts describes each.
#pragma once

#include <napi.h>

#include <new>

#include "errors.h"

namespace cria::addon {

void export_device(Napi::Env env, Napi::Object exports);
void export_tensor(Napi::Env env, Napi::Object exports);
void export_weights(Napi::Env env, Napi::Object exports);
void export_cache(Napi::Env env, Napi::Object exports);
void export_program(Napi::Env env, Napi::Object exports);
void export_kernels(Napi::Env env, Napi::Object exports);

// The function, with the one exception that Node-API's wrappers do not know turned into an error of ours.
template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return kFunction(info);
  } catch (const std::bad_alloc&) {
    throw memory_error(info.Env());
  }
}

template <Napi::Value (*kFunction)(const Napi::CallbackInfo&)>
void export_function(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<guarded<kFunction>>(env, name));
}

}  // namespace cria::addon
