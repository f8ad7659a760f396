// cria.h's handles, freed when they go out of scope, and its statuses as exceptions. Nothing here takes memory: what an
// allocation that fails is blamed on must be the library.
#pragma once

#include <cstddef>
#include <memory>

#include "../cria.h"

namespace cria::check {

// A call that failed. `sentence` is the thread's last error.
struct Failure {
  cria_status status;
  const char* sentence;
};

inline void require(cria_status status) {
  if (status != CRIA_OK) throw Failure{status, cria_last_error()};
}

template <auto kFree>
struct Free {
  void operator()(auto* handle) const { kFree(handle); }
};

using Device = std::unique_ptr<cria_device, Free<cria_device_free>>;
using File = std::unique_ptr<cria_file, Free<cria_file_free>>;
using Tensor = std::unique_ptr<cria_tensor, Free<cria_tensor_free>>;
using Cache = std::unique_ptr<cria_cache, Free<cria_cache_free>>;
using Program = std::unique_ptr<cria_program, Free<cria_program_free>>;
using Cancel = std::unique_ptr<cria_cancel, Free<cria_cancel_free>>;

// The handle that create(arguments..., &handle) makes.
template <class Handle, class... Parameters, class... Arguments>
Handle make(cria_status (*create)(Parameters...), Arguments... arguments) {
  typename Handle::pointer made = nullptr;
  require(create(arguments..., &made));
  return Handle(made);
}

}  // namespace cria::check
