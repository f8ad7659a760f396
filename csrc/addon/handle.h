// Handles of cria.h as JavaScript objects: opaque, tagged with their kind, freed by free() or the garbage collector.
//
// An object holds a shared pointer, and so does every call that works on the handle: free() never pulls it from under
// one.
#pragma once

#include <napi.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

#include "../cria.h"
#include "errors.h"

namespace cria::addon {

template <class T>
struct HandleKind;  // { const char* name; napi_type_tag tag; void free(T*); }

#define CRIA_HANDLE(type, low)                                            \
  template <>                                                             \
  struct HandleKind<cria_##type> {                                        \
    static constexpr const char* name = "a " #type;                       \
    static constexpr napi_type_tag tag = {0x63726961'68616e64u, low};     \
    static void free(cria_##type* handle) { cria_##type##_free(handle); } \
  }
CRIA_HANDLE(device, 1);
CRIA_HANDLE(tensor, 2);
CRIA_HANDLE(cache, 3);
CRIA_HANDLE(program, 4);
CRIA_HANDLE(cancel, 5);
CRIA_HANDLE(file, 6);
#undef CRIA_HANDLE

// How many of a kind are not freed yet, in all JavaScript environments: those of objects, and those that work under way
// still holds.
template <class T>
inline std::atomic<std::int64_t> live_handles{0};

// Takes what cria.h made. A null pointer, as of a call that failed, is no handle.
template <class T>
std::shared_ptr<T> own_handle(T* handle) {
  if (handle == nullptr) return nullptr;
  live_handles<T>.fetch_add(1, std::memory_order_relaxed);
  return std::shared_ptr<T>(handle, [](T* owned) {
    HandleKind<T>::free(owned);
    live_handles<T>.fetch_sub(1, std::memory_order_relaxed);
  });
}

// Tells the garbage collector of memory outside the heap that was taken, or given back.
//
// V8 collects once for each 64 MiB more that it is told of: while 3.8 GB of weights were packed, half of the threads'
// own time went into that. So it is told when what it does not know is half of what it knows: forgotten handles still
// make it collect, if later by as much. V8 counts for a thread's isolate, and so does this.
inline void tell_collector(napi_env env, std::int64_t bytes) {
  constexpr std::int64_t kLeast = 32 << 20;
  thread_local std::int64_t held = 0, told = 0;
  held += bytes;
  if (std::abs(held - told) < std::max(kLeast, told / 2)) return;
  std::int64_t total;
  napi_adjust_external_memory(env, held - told, &total);
  told = held;
}

// What a handle object wraps. The kind's type is in the tag, and in the deleter.
struct Slot {
  std::shared_ptr<void> handle;  // null once freed
  std::int64_t bytes;            // of memory outside the heap, which the garbage collector is told of

  void free(napi_env env) {
    if (handle == nullptr) return;
    handle.reset();
    tell_collector(env, -bytes);
  }
};

template <class T>
Napi::Object make_handle(Napi::Env env, std::shared_ptr<T> owner, std::size_t bytes = 0) {
  auto slot = std::make_unique<Slot>(Slot{std::move(owner), static_cast<std::int64_t>(bytes)});
  const Napi::Object object = Napi::Object::New(env);
  check(env, napi_type_tag_object(env, object, &HandleKind<T>::tag));
  const auto finalize = [](napi_env finalizing, void* data, void*) {
    static_cast<Slot*>(data)->free(finalizing);
    delete static_cast<Slot*>(data);
  };
  check(env, napi_wrap(env, object, slot.get(), finalize, nullptr, nullptr));
  tell_collector(env, slot.release()->bytes);
  return object;
}

template <class T>
Napi::Object make_handle(Napi::Env env, T* handle, std::size_t bytes = 0) {
  return make_handle(env, own_handle(handle), bytes);
}

// The handle in `value`; throws a TypeError where it is no handle of that kind, ERR_CRIA_DISPOSED where it was freed.
template <class T>
std::shared_ptr<T> get_handle(const Napi::Value& value, const char* name) {
  const Napi::Env env = value.Env();
  bool matches = false;
  if (value.IsObject()) check(env, napi_check_object_type_tag(env, value, &HandleKind<T>::tag, &matches));
  if (!matches) throw type_error(env, std::string(name) + ": must be " + HandleKind<T>::name);
  void* slot = nullptr;
  check(env, napi_unwrap(env, value, &slot));
  auto handle = std::static_pointer_cast<T>(static_cast<Slot*>(slot)->handle);
  if (handle == nullptr) throw cria_error(env, "ERR_CRIA_DISPOSED", std::string(name) + ": was disposed");
  return handle;
}

}  // namespace cria::addon
