#include "fault.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucontext.h>

#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "block.h"

namespace cria::cuda::emulation {

static thread_local Fault last_fault;

const Fault& fault() { return last_fault; }
void clear_fault() { last_fault = {}; }

std::string place_of(const void* code) {
  Dl_info info;
  if (!dladdr(code, &info)) return "an unknown place";
  char place[512];
  const std::ptrdiff_t offset = static_cast<const char*>(code) - static_cast<const char*>(info.dli_fbase);
  std::snprintf(place, sizeof place, "%s+0x%tx", info.dli_fname, offset);
  return place;
}

// "rmsnorm_kernel: block (3, 0, 0), thread 17: ", of the lane that runs.
static std::string where() {
  const Block& at = block();
  char place[128];
  std::snprintf(place, sizeof place, ": block (%u, %u, %u), thread %u: ", at.index.x, at.index.y, at.index.z,
                self->thread.x);
  return at.launch->kernel + place;
}

static void keep(cudaError_t code, Site site, const char* what) {
  const std::string source = *site.file ? std::string(site.file) + ":" + std::to_string(site.line) + ": " : "";
  last_fault = {code, where() + source + what};
}

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
  keep(code, site, what);
  // The failed lanes' stacks are left as they are: no destructor runs. Kernels own nothing.
  void* nowhere;
  cria_fibre_switch(&nowhere, block().main);
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
// What the handler saw: it only notes it, for little may be called there.
struct Caught {
  int signal = 0;
  void *address, *instruction;
};
thread_local Caught caught;

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
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  caught = {signal, info->si_addr, reinterpret_cast<void*>(registers[REG_RIP])};
  // The handler returns into the fibre that waits for the grid; the failed lane's stack is left behind.
  registers[REG_RSP] = reinterpret_cast<greg_t>(*landing);
  registers[REG_RIP] = reinterpret_cast<greg_t>(&cria_fibre_resume);
}

struct Meaning {
  int signal;
  cudaError_t code;
  const char* what;
};
constexpr Meaning kMeanings[] = {
    {SIGSEGV, cudaErrorIllegalAddress, "illegal address"},
    {SIGBUS, cudaErrorIllegalAddress, "illegal address"},
    {SIGILL, cudaErrorMisalignedAddress,
     "misaligned access, index past its array, or shift or conversion out of range"},
    {SIGFPE, cudaErrorLaunchFailure, "division by zero"},
};

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

void report_signal() {
  for (const Meaning& meaning : kMeanings) {
    if (meaning.signal != caught.signal) continue;
    char what[512];
    std::snprintf(what, sizeof what, "%s, %p, by the instruction at %s", meaning.what, caught.address,
                  place_of(caught.instruction).c_str());
    last_fault = {meaning.code, where() + what};
  }
  caught = {};
}

}  // namespace cria::cuda::emulation
