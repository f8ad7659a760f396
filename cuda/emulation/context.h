// The one device's state: the error that a kernel left, and what the device claims to be.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "errors.h"

namespace cria::cuda::emulation {

struct Context {
  std::recursive_mutex mutex;  // held by every call that changes something, and while a kernel runs
  std::atomic<cudaError_t> sticky{cudaSuccess}, last{cudaSuccess};
  std::string report;
  bool quiet;
  int major = 9, minor = 0;  // of an H100, so that every kernel may be chosen
  int captures = 0;          // streams under capture that forbid calls which wait (any mode but relaxed)
};

Context& context();

/// What every call returns at once where it is not success: nothing works on a context that a kernel has broken.
inline cudaError_t broken() { return context().sticky; }

/// Keeps an error for cudaGetLastError, and returns it.
cudaError_t note(cudaError_t error);

/// Breaks the context.
void break_context(cudaError_t error, const std::string& report);

}  // namespace cria::cuda::emulation
