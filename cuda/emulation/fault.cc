#include "fault.h"

#include <signal.h>
#include <ucontext.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "block.h"

namespace cria::cuda::emulation {

static thread_local Fault last_fault;

const Fault& fault() { return last_fault; }
void clear_fault() { last_fault = {}; }

void fail(cudaError_t code, Site site, const char* format, ...) {
  char what[4096];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  if (!self) {
    std::fprintf(stderr, "cria: outside a kernel: %s\n", what);
    std::abort();
  }
  const Block& at = block();
  char where[512];
  std::snprintf(where, sizeof where, "%s: block (%u, %u, %u), thread %u, %s:%d: ", at.launch->kernel.c_str(),
                at.index.x, at.index.y, at.index.z, self->thread.x, site.file, site.line);
  last_fault = {code, std::string(where) + what};
  void* nowhere;
  cria_fibre_switch(&nowhere, at.main);
  __builtin_unreachable();
}

// --- signals ---

namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
constexpr std::size_t kSignalStack = 64 << 10;

std::mutex mutex;
int guards = 0;  // on all threads; the first installs the handlers, the last restores what was there
struct sigaction previous[4];

thread_local void** landing = nullptr;  // where this thread's kernel ends, null outside one
thread_local stack_t outer_stack;
thread_local std::unique_ptr<char[]> signal_stack;

void pass_on(int signal, siginfo_t* info, void* context) {
  for (int i = 0; i < 4; ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& before = previous[i];
    if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(signal, info, context);
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
    // As before: the instruction runs again and the signal takes its default course.
    sigaction(signal, &before, nullptr);
  }
}

void on_signal(int signal, siginfo_t* info, void* context) {
  if (!landing || !self) return pass_on(signal, info, context);
  const cudaError_t code = signal == SIGILL   ? cudaErrorMisalignedAddress
                           : signal == SIGFPE ? cudaErrorLaunchFailure
                                              : cudaErrorIllegalAddress;
  const char* what = signal == SIGILL   ? "misaligned access, index past its array, or shift or conversion out of range"
                     : signal == SIGFPE ? "division by zero"
                                        : "illegal address";
  const Block& at = block();
  char report[512];
  std::snprintf(report, sizeof report, "%s: block (%u, %u, %u), thread %u: %s %p, at instruction %p",
                at.launch->kernel.c_str(), at.index.x, at.index.y, at.index.z, self->thread.x, what, info->si_addr,
                reinterpret_cast<void*>(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]));
  last_fault = {code, report};
  // The handler returns into the fibre that waits for the grid; the failed lane's stack is left behind.
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  registers[REG_RSP] = reinterpret_cast<greg_t>(*landing);
  registers[REG_RIP] = reinterpret_cast<greg_t>(&cria_fibre_resume);
}

}  // namespace

SignalGuard::SignalGuard(void*& main) {
  // A lane's own stack may be what overflowed.
  if (!signal_stack) signal_stack = std::make_unique<char[]>(kSignalStack);
  stack_t stack{};
  stack.ss_sp = signal_stack.get();
  stack.ss_size = kSignalStack;
  sigaltstack(&stack, &outer_stack);
  landing = &main;

  const std::lock_guard lock(mutex);
  if (guards++ > 0) return;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &action, &previous[i]);
}

SignalGuard::~SignalGuard() {
  {
    const std::lock_guard lock(mutex);
    if (--guards == 0) {
      for (int i = 0; i < 4; ++i) sigaction(kSignals[i], &previous[i], nullptr);
    }
  }
  landing = nullptr;
  sigaltstack(&outer_stack, nullptr);
}

}  // namespace cria::cuda::emulation
