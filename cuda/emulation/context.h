// The one device's state: the error that a kernel left, and what the device claims to be.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "errors.h"

namespace cria::cuda::emulation {

struct Context {
  std::recursive_mutex mutex;  // held by every call that changes something, and while a kernel runs
  std::atomic<cudaError_t> sticky{cudaSuccess}, last{cudaSuccess};
  std::string report;
  bool quiet;
  int major = 9, minor = 0;                    // compute capability
  std::size_t shared_per_block = 227 << 10;    // bytes, at most
  int captures = 0;                            // streams under capture that forbid all threads calls which wait
  std::map<std::thread::id, int> captures_of;  // those that forbid them the thread that began the capture
};

Context& context();

/// What every call returns at once where it is not success: nothing works on a context that a kernel has broken.
inline cudaError_t broken() { return context().sticky; }

/// Whether a capture forbids the calling thread what waits.
inline bool capture_forbids() {
  const auto& of = context().captures_of;
  const auto own = of.find(std::this_thread::get_id());
  return context().captures > 0 || (own != of.end() && own->second > 0);
}

/// Keeps an error for cudaGetLastError, and returns it.
cudaError_t note(cudaError_t error);

/// Breaks the context.
void break_context(cudaError_t error, const std::string& report);

}  // namespace cria::cuda::emulation
