// How a kernel fails: the first fault ends its grid, and is kept as the context's error.
#pragma once

#include <string>

#include "errors.h"
#include "site.h"

namespace cria::cuda::emulation {

struct Fault {
  cudaError_t code = cudaSuccess;
  std::string report;  // the kernel, the block, the lane, and what it did
};

/// Ends the running grid. Only from a kernel.
[[noreturn]] void fail(cudaError_t code, Site site, const char* format, ...) __attribute__((format(printf, 3, 4)));

/// The last fault of this OS thread.
const Fault& fault();
void clear_fault();

/// "libcria_cuda_emulated.so+0x1234", as addr2line and nm count.
std::string place_of(const void* code);

/// While one lives, a signal that an emulated kernel raises on this OS thread is a fault, and its grid ends as if the
/// fibre at `main` were switched to: SIGSEGV and SIGBUS are an illegal address, SIGILL (the compiler's check of a typed
/// access, see cuda/CMakeLists.txt) is a misaligned one, SIGFPE a failure. Signals of other threads go where they went
/// before.
class SignalGuard {
 public:
  explicit SignalGuard(void*& main);
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
};

/// Where a signal ended the grid, makes it this thread's fault. Before `self` is forgotten.
void report_signal();

}  // namespace cria::cuda::emulation
