#include <cstring>

#include "cuda.cuh"
#include "plugin.h"

namespace cria::cuda {
namespace {

const char* describe(Status status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }

// The first failure of the calls, which follow one another only where the last one worked.
#define CRIA_CUDA_TRY(call) \
  if (const Status status = (call); status != cudaSuccess) return status

// A thread's current device is its own, and another user of CUDA in the process may have chosen for it.
Status use_device() { return cudaSetDevice(0); }

Status facts(DeviceFacts* facts) {
  CRIA_CUDA_TRY(use_device());
  cudaDeviceProp properties;
  CRIA_CUDA_TRY(cudaGetDeviceProperties(&properties, 0));
  std::size_t available = 0, total = 0;
  CRIA_CUDA_TRY(cudaMemGetInfo(&available, &total));
  *facts = {{}, properties.major, properties.minor, properties.multiProcessorCount, total, available};
  std::memcpy(facts->name, properties.name, sizeof(facts->name) - 1);
  return cudaSuccess;
}

Status open(DeviceFacts* out) {
  int count = 0;
  CRIA_CUDA_TRY(cudaGetDeviceCount(&count));
  if (count == 0) return cudaErrorNoDevice;
  return facts(out);
}

Status allocate(void** memory, std::size_t bytes) {
  CRIA_CUDA_TRY(use_device());
  const Status status = cudaMalloc(memory, bytes);
  if (status == cudaErrorMemoryAllocation) cudaGetLastError();  // no memory is no failure of the device
  return status;
}
void free(void* memory) { cudaFree(memory); }

Status allocate_host(void** memory, std::size_t bytes) {
  CRIA_CUDA_TRY(use_device());
  const Status status = cudaMallocHost(memory, bytes);
  if (status == cudaErrorMemoryAllocation) cudaGetLastError();
  return status;
}
void free_host(void* memory) { cudaFreeHost(memory); }

Status create_stream(Stream* stream) {
  CRIA_CUDA_TRY(use_device());
  return cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
}
void destroy_stream(Stream stream) { cudaStreamDestroy(stream); }
Status synchronize(Stream stream) { return cudaStreamSynchronize(stream); }
Status copy(void* to, const void* from, std::size_t bytes, Stream stream) {
  CRIA_CUDA_TRY(use_device());
  return bytes == 0 ? cudaSuccess : cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream);
}
Status clear(void* memory, std::size_t bytes, Stream stream) {
  return bytes == 0 ? cudaSuccess : cudaMemsetAsync(memory, 0, bytes, stream);
}

Status begin_capture(Stream stream) { return cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal); }
Status end_capture(Stream stream, Graph* graph) {
  cudaGraph_t recorded = nullptr;
  CRIA_CUDA_TRY(cudaStreamEndCapture(stream, &recorded));
  const Status status = cudaGraphInstantiate(graph, recorded, 0);
  cudaGraphDestroy(recorded);
  return status;
}
Status launch_graph(Graph graph, Stream stream) { return cudaGraphLaunch(graph, stream); }
void destroy_graph(Graph graph) { cudaGraphExecDestroy(graph); }

Status create_event(void** event) {
  CRIA_CUDA_TRY(use_device());
  return cudaEventCreate(reinterpret_cast<cudaEvent_t*>(event));
}
void destroy_event(void* event) { cudaEventDestroy(static_cast<cudaEvent_t>(event)); }
Status record_event(void* event, Stream stream) { return cudaEventRecord(static_cast<cudaEvent_t>(event), stream); }
Status milliseconds(void* first, void* last, float* elapsed) {
  CRIA_CUDA_TRY(cudaEventSynchronize(static_cast<cudaEvent_t>(last)));
  return cudaEventElapsedTime(elapsed, static_cast<cudaEvent_t>(first), static_cast<cudaEvent_t>(last));
}

#undef CRIA_CUDA_TRY

constexpr Plugin kPlugin = {
    kPluginVersion,
    kPluginSize,
    describe,
    open,
    facts,
    allocate,
    free,
    allocate_host,
    free_host,
    create_stream,
    destroy_stream,
    synchronize,
    copy,
    clear,
    begin_capture,
    end_capture,
    launch_graph,
    destroy_graph,
    create_event,
    destroy_event,
    record_event,
    milliseconds,
    embed,
    rmsnorm,
    quantize,
    matmul_q,
    matmul_f,
    rope_angles,
    rope,
    kv_move,
    attention_queries,
    attention,
    attention_merge,
    prefix_attention,
    swiglu,
    add,
    select,
    top_k,
    sample,
    advance,
};

}  // namespace
}  // namespace cria::cuda

const cria::cuda::Plugin* cria_cuda_plugin() { return &cria::cuda::kPlugin; }
