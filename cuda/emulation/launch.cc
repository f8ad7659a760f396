// From a launch to a grid's run.
#include <cxxabi.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "block.h"
#include "context.h"
#include "fault.h"
#include "runtime.h"
#include "streams.h"

namespace cria::cuda::emulation {

static std::string name_of(const void* kernel, const char* launch) {
  Dl_info info;
  if (dladdr(kernel, &info) && info.dli_sname && info.dli_saddr == kernel) {
    int status;
    const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                      std::free);
    const std::string text = name ? name.get() : info.dli_sname;
    return text.substr(0, text.find('('));
  }
  // "... [with Operands = cria::cuda::RmsNorm; ...]"
  const std::string text = launch;
  const std::size_t begin = text.find("Operands = ") + 11;
  return "the kernel of " + text.substr(begin, text.find_first_of(";]", begin) - begin) + " at " + place_of(kernel);
}

// A kernel's own faults are no result of the launch: they break the context.
static cudaError_t run(const Launch& launch) {
  if (!run_grid(launch)) break_context(fault().code, fault().report);
  return cudaSuccess;
}

// Whether CRIA_EMULATION_FAULT asks for kernels of these operands to fail, so that whoever launches them can be tested.
static bool fault_wanted(const char* operands) {
  static const char* wanted = std::getenv("CRIA_EMULATION_FAULT");
  return wanted != nullptr && *wanted != '\0' && std::strstr(operands, wanted) != nullptr;
}

// What a kernel with a stray pointer does.
static void read_nowhere() {
  const volatile std::uintptr_t address = 64;
  *reinterpret_cast<const volatile int*>(address);
}

cudaError_t launch_kernel(const void* kernel, const char* operands, dim3 grid, int threads, std::size_t shared,
                          bool overlaps, cudaStream_t stream, std::function<void()> body) {
  if (threads < 1 || threads > kMaxThreads || shared > context().shared_per_block || grid.x > 0x7fffffff ||
      grid.y > 0xffff || grid.z > 0xffff) {
    return note(cudaErrorInvalidConfiguration);
  }
  if (fault_wanted(operands)) body = read_nowhere;
  auto launch = std::make_shared<const Launch>(
      Launch{name_of(kernel, operands), grid, threads, shared, overlaps, std::move(body)});
  return enqueue(stream, [launch] { return run(*launch); });
}

}  // namespace cria::cuda::emulation
