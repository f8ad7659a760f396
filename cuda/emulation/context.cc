#include "context.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "allocations.h"
#include "device_name.h"
#include "runtime.h"
#include "streams.h"

namespace cria::cuda::emulation {

// Few, so that tests see more blocks than processors.
constexpr int kProcessors = 4;
constexpr int kVersion = 13000;  // CUDA 13.0: the oldest driver that the plugin takes

// CRIA_EMULATION_CAPABILITY=8.6; of an H100 where it says nothing, so that every kernel may be chosen.
static void read_capability(Context& context) {
  const char* text = std::getenv("CRIA_EMULATION_CAPABILITY");
  int major, minor;
  if (text == nullptr || std::sscanf(text, "%d.%d", &major, &minor) != 2) return;
  context.major = major;
  context.minor = minor;
  // Kibibytes of a block (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
  const bool small = major == 8 && (minor == 6 || minor == 9);
  context.shared_per_block = (small ? 99 : major == 8 ? 163 : 227) << 10;
}

Context& context() {
  // Never destroyed: other static objects may still call at exit.
  static Context& instance = *[] {
    auto* made = new Context;
    made->quiet = std::getenv("CRIA_EMULATION_QUIET") != nullptr;
    read_capability(*made);
    return made;
  }();
  return instance;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) context().last = error;
  return error;
}

void break_context(cudaError_t error, const std::string& report) {
  context().sticky = error;
  context().report = report;
  if (!context().quiet) std::fprintf(stderr, "cria: %s: %s\n", cudaGetErrorName(error), report.c_str());
}

std::string fault_report() {
  const std::lock_guard lock(context().mutex);
  return context().report;
}

void quiet(bool on) { context().quiet = on; }

void forget_error() {
  const std::lock_guard lock(context().mutex);
  context().sticky = context().last = cudaSuccess;
  context().report.clear();
}

}  // namespace cria::cuda::emulation

using namespace cria::cuda::emulation;

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? broken() : note(cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, kDeviceName);
  properties->totalGlobalMem = kDeviceMemory;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = context().shared_per_block;
  properties->sharedMemPerMultiprocessor = context().shared_per_block + (1 << 10);
  properties->major = context().major;
  properties->minor = context().minor;
  properties->multiProcessorCount = kProcessors;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->l2CacheSize = 50 << 20;
  properties->memoryBusWidth = 5120;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kProcessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = context().major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = context().minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(context().shared_per_block);
      return cudaSuccess;
  }
  return note(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaPeekAtLastError() { return broken() ? broken() : context().last.load(); }

cudaError_t cudaGetLastError() { return broken() ? broken() : context().last.exchange(cudaSuccess); }

cudaError_t cudaDeviceReset() {
  Context& c = context();
  const std::lock_guard lock(c.mutex);
  forget_streams();
  forget_allocations();
  c.captures = 0;
  for (auto& [thread, count] : c.captures_of) count = 0;
  forget_error();
  return cudaSuccess;
}
