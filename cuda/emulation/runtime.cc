#include "runtime.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "block.h"
#include "fault.h"
#include "memory.h"

using cria::cuda::emulation::GuardedMemory;
using Work = std::function<cudaError_t()>;

struct CUstream_st {
  CUgraph_st* capture = nullptr;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
  bool recorded = false;
};
struct CUgraph_st {
  std::vector<Work> work;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};

namespace {

// A device of an H100's limits that claims sm_90, so that every kernel can be chosen.
constexpr std::size_t kMemory = std::size_t{4} << 30;
constexpr std::size_t kSharedPerBlock = 227 << 10;
constexpr std::size_t kAlignment = 256;  // cudaMalloc's promise

struct Context {
  std::recursive_mutex mutex;
  std::map<void*, GuardedMemory> device, host;
  std::size_t used = 0;
  cudaError_t sticky = cudaSuccess, last = cudaSuccess;
  std::string report;
  bool quiet = std::getenv("CRIA_EMULATION_QUIET") != nullptr;
  int major = 9, minor = 0;
  CUstream_st default_stream;
};

Context& context() {
  static Context& instance = *new Context;  // never destroyed: other statics may still call
  return instance;
}

cudaError_t note(cudaError_t error) {
  if (error != cudaSuccess) context().last = error;
  return error;
}

// What every call does first: nothing works on a context that a kernel has broken.
#define RETURN_IF_BROKEN() \
  if (context().sticky != cudaSuccess) return context().sticky

cudaError_t allocate(std::map<void*, GuardedMemory>& where, void** memory, std::size_t bytes) {
  Context& c = context();
  const std::lock_guard lock(c.mutex);
  RETURN_IF_BROKEN();
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (bytes > kMemory - c.used) return note(cudaErrorMemoryAllocation);
  try {
    GuardedMemory taken(bytes, kAlignment);
    *memory = taken.data();
    where.emplace(*memory, std::move(taken));
  } catch (const std::bad_alloc&) {
    return note(cudaErrorMemoryAllocation);
  }
  if (&where == &c.device) c.used += bytes;
  return cudaSuccess;
}

cudaError_t release(std::map<void*, GuardedMemory>& where, void* memory) {
  Context& c = context();
  const std::lock_guard lock(c.mutex);
  if (!memory) return c.sticky;
  const auto found = where.find(memory);
  if (found == where.end()) return note(cudaErrorInvalidValue);
  const bool overrun = found->second.overrun();
  if (&where == &c.device) c.used -= found->second.size();
  where.erase(found);
  if (overrun) c.sticky = cudaErrorIllegalAddress, c.report = "bytes after the end of an allocation were written";
  return c.sticky;
}

cudaError_t enqueue(cudaStream_t stream, Work work) {
  Context& c = context();
  const std::lock_guard lock(c.mutex);
  RETURN_IF_BROKEN();
  if (stream && stream->capture) {
    stream->capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  return note(work());
}

std::string name_of(const void* kernel, const char* operands) {
  Dl_info info;
  if (dladdr(kernel, &info) && info.dli_sname && info.dli_saddr == kernel) {
    int status;
    const std::unique_ptr<char, void (*)(void*)> name(abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status),
                                                      std::free);
    std::string text = name ? name.get() : info.dli_sname;
    return text.substr(0, text.find('('));
  }
  // "... [with Operands = cria::cuda::RmsNorm; ...]"
  const std::string text = operands;
  const std::size_t begin = text.find("Operands = ") + 11;
  return "the kernel of " + text.substr(begin, text.find_first_of(";]", begin) - begin);
}

// A kernel's own faults are not this call's result: they break the context.
cudaError_t run(const cria::cuda::emulation::Launch& launch) {
  Context& c = context();
  if (cria::cuda::emulation::run_grid(launch)) return cudaSuccess;
  c.sticky = cria::cuda::emulation::fault().code;
  c.report = cria::cuda::emulation::fault().report;
  if (!c.quiet) std::fprintf(stderr, "cria: %s: %s\n", cudaGetErrorName(c.sticky), c.report.c_str());
  return cudaSuccess;
}

}  // namespace

namespace cria::cuda::emulation {

void set_compute_capability(int major, int minor) {
  context().major = major;
  context().minor = minor;
}

std::string fault_report() { return context().report; }
void quiet(bool on) { context().quiet = on; }

cudaError_t launch_kernel(const void* kernel, const char* operands, dim3 grid, int threads, std::size_t shared,
                          cudaStream_t stream, std::function<void()> body) {
  if (threads < 1 || threads > kMaxThreads || shared > kSharedPerBlock || grid.x > 0x7fffffff || grid.y > 0xffff ||
      grid.z > 0xffff) {
    return note(cudaErrorInvalidConfiguration);
  }
  auto launch =
      std::make_shared<const Launch>(Launch{name_of(kernel, operands), grid, threads, shared, std::move(body)});
  return enqueue(stream, [launch] { return run(*launch); });
}

}  // namespace cria::cuda::emulation

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? context().sticky : note(cudaErrorInvalidDevice); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return note(cudaErrorInvalidDevice);
  *properties = {};
  std::strcpy(properties->name, "emulated");
  properties->totalGlobalMem = kMemory;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = kSharedPerBlock;
  properties->sharedMemPerMultiprocessor = 228 << 10;
  properties->major = context().major;
  properties->minor = context().minor;
  properties->multiProcessorCount = 4;  // few, so that tests see more blocks than processors
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = 2048;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->l2CacheSize = 50 << 20;
  properties->memoryBusWidth = 5120;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = properties.multiProcessorCount;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = properties.major;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = properties.minor;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = kSharedPerBlock;
      return cudaSuccess;
  }
  return note(cudaErrorInvalidValue);
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = kMemory - context().used;
  *total = kMemory;
  return context().sticky;
}
cudaError_t cudaDeviceSynchronize() { return context().sticky; }
cudaError_t cudaDeviceReset() {
  Context& c = context();
  const std::lock_guard lock(c.mutex);
  c.device.clear();
  c.host.clear();
  c.used = 0;
  c.sticky = c.last = cudaSuccess;
  c.report.clear();
  return cudaSuccess;
}
cudaError_t cudaPeekAtLastError() { return context().sticky ? context().sticky : context().last; }
cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  context().last = cudaSuccess;
  return error;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) { return allocate(context().device, memory, bytes); }
cudaError_t cudaFree(void* memory) { return release(context().device, memory); }
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) { return allocate(context().host, memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return release(context().host, memory); }

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return enqueue(stream, [=] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  return enqueue(stream, [=] {
    std::memset(memory, value, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaMemset(void* memory, int value, std::size_t bytes) {
  return cudaMemsetAsync(memory, value, bytes, nullptr);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  RETURN_IF_BROKEN();
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return context().sticky;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  RETURN_IF_BROKEN();
  return stream && stream->capture ? note(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return context().sticky; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  RETURN_IF_BROKEN();
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return context().sticky;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return enqueue(stream, [=] {
    event->time = std::chrono::steady_clock::now();
    event->recorded = true;
    return cudaSuccess;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return context().sticky; }
cudaError_t cudaEventQuery(cudaEvent_t) { return context().sticky; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  RETURN_IF_BROKEN();
  if (!start->recorded || !end->recorded) return note(cudaErrorInvalidResourceHandle);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  RETURN_IF_BROKEN();
  if (!stream || stream->capture) return note(cudaErrorStreamCaptureUnsupported);
  stream->capture = new CUgraph_st;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (!stream || !stream->capture) return note(cudaErrorStreamCaptureInvalidated);
  *graph = stream->capture;
  stream->capture = nullptr;
  return context().sticky;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  RETURN_IF_BROKEN();
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const Work& work : executable->work) {
    if (const cudaError_t error = enqueue(stream, work)) return error;
  }
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return context().sticky;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return context().sticky;
}

namespace {
struct ErrorText {
  cudaError_t code;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "CUDA driver version is insufficient"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "not permitted while a stream is captured"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "no valid capture"},
};
const ErrorText& text_of(cudaError_t error) {
  static constexpr ErrorText unknown{cudaSuccess, "cudaErrorUnknown", "unknown error"};
  for (const ErrorText& entry : kErrors) {
    if (entry.code == error) return entry;
  }
  return unknown;
}
}  // namespace

const char* cudaGetErrorName(cudaError_t error) { return text_of(error).name; }
const char* cudaGetErrorString(cudaError_t error) { return text_of(error).text; }
