// Streams, events and graphs: what runs when. All as late as it may.
#include <cstring>

#include "test.h"

namespace cria::cuda::emulation::test {

static Stream new_stream(unsigned flags = cudaStreamNonBlocking) {
  cudaStream_t stream;
  expect(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess, "cudaStreamCreateWithFlags failed");
  return stream;
}

static void increment(int* value, Stream stream) {
  expect(enqueue_kernel(
             1, 1, 0, [=] { ++*value; }, stream) == 0,
         "a launch failed");
}

static int* zero() {
  int* value = device_array<int>(1);
  *value = 0;
  return value;
}

static void work_runs_when_waited_for() {
  int* value = zero();
  const Stream stream = new_stream();
  increment(value, stream);
  expect(*value == 0, "the host saw a result that it did not wait for");
  expect(cudaStreamSynchronize(stream) == cudaSuccess && *value == 1, "not run by cudaStreamSynchronize");
  increment(value, stream);
  cudaDeviceSynchronize();
  expect(*value == 2, "not run by cudaDeviceSynchronize");
  cudaStreamDestroy(stream);
}

static void pinned_memory_is_read_late() {
  int *value = zero(), *pinned;
  cudaMallocHost(&pinned, sizeof *pinned);
  int pageable = 1;
  const Stream stream = new_stream();
  *pinned = 1;
  cudaMemcpyAsync(value, pinned, sizeof *value, cudaMemcpyHostToDevice, stream);
  *pinned = 2;  // too soon
  cudaStreamSynchronize(stream);
  expect(*value == 2, "the copy did not wait");
  cudaMemcpyAsync(value, &pageable, sizeof *value, cudaMemcpyHostToDevice, stream);
  pageable = 3;  // staged when the call returned
  cudaStreamSynchronize(stream);
  expect(*value == 1, "pageable memory was read late");
  cudaStreamDestroy(stream);
}

static void the_default_stream_is_ordered_with_blocking_ones() {
  int *value = zero(), host = -1;
  const Stream blocking = new_stream(cudaStreamDefault), other = new_stream();
  increment(value, blocking);
  increment(value, other);
  cudaMemcpy(&host, value, sizeof host, cudaMemcpyDeviceToHost);
  expect(host == 1, "a copy on the default stream saw " + std::to_string(host) + " of 1");
  increment(value, nullptr);
  increment(value, blocking);
  cudaStreamSynchronize(blocking);
  expect(*value == 3, "a blocking stream did not wait for the default one");
  cudaStreamSynchronize(other);
  expect(*value == 4, "not all ran");
  cudaStreamDestroy(blocking);
  cudaStreamDestroy(other);
}

static void events_order_streams() {
  int* value = zero();
  const Stream first = new_stream(), second = new_stream();
  cudaEvent_t event, end;
  cudaEventCreate(&event);
  cudaEventCreate(&end);
  increment(value, first);
  cudaEventRecord(event, first);
  increment(value, first);
  cudaStreamWaitEvent(second, event);
  expect(enqueue_kernel(
             1, 1, 0, [=] { *value *= 10; }, second) == 0,
         "a launch failed");
  cudaEventRecord(end, second);
  expect(cudaEventQuery(event) == cudaErrorNotReady || *value == 1, "an event came before its work");
  cudaEventSynchronize(end);
  expect(*value == 10, "second ran without first's work, or with too much of it");
  float milliseconds = -1;
  expect(cudaEventElapsedTime(&milliseconds, event, end) == cudaSuccess && milliseconds >= 0, "no time between events");
  cudaStreamSynchronize(first);
  expect(*value == 11, "first did not go on");
  int polls = 0;
  increment(value, first);
  increment(value, first);
  while (cudaStreamQuery(first) == cudaErrorNotReady) ++polls;
  expect(polls == 1 && *value == 13, "polling does not end when the work does");
  cudaEventDestroy(event);
  cudaEventDestroy(end);
  cudaStreamDestroy(first);
  cudaStreamDestroy(second);
}

static void a_graph_replays_what_was_captured() {
  int* value = zero();
  int* copy = zero();
  const Stream stream = new_stream(), side = new_stream();
  cudaEvent_t fork, join;
  cudaEventCreate(&fork);
  cudaEventCreate(&join);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "capture did not begin");
  increment(value, stream);
  cudaEventRecord(fork, stream);
  cudaStreamWaitEvent(side, fork);
  increment(value, side);
  cudaEventRecord(join, side);
  cudaStreamWaitEvent(stream, join);
  cudaMemcpyAsync(copy, value, sizeof *copy, cudaMemcpyDeviceToDevice, stream);
  cudaMemsetAsync(value, 0xff, 1, stream);
  void* memory;
  expect(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported, "waiting under capture was allowed");
  expect(cudaMalloc(&memory, 16) == cudaErrorStreamCaptureUnsupported, "cudaMalloc under capture was allowed");
  expect(cudaStreamEndCapture(stream, &graph) == cudaSuccess, "capture did not end");
  cudaDeviceSynchronize();
  expect(*value == 0, "a captured kernel ran");
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  for (int i = 0; i < 3; ++i) {
    *value = i;
    expect(cudaGraphLaunch(executable, stream) == cudaSuccess, "cudaGraphLaunch failed");
    expect(*value == i, "the graph did not wait");
    cudaStreamSynchronize(stream);
    expect(*copy == i + 2 && *value == 0xff, "the graph's work is not what was captured");
  }
  cudaGraphExecDestroy(executable);
  cudaEventDestroy(fork);
  cudaEventDestroy(join);
  cudaStreamDestroy(stream);
  cudaStreamDestroy(side);
}

static void a_host_function_needs_no_wait() {
  int* value = zero();
  static int seen;
  static int* watched;
  watched = value;
  const Stream stream = new_stream();
  increment(value, stream);
  cudaLaunchHostFunc(
      stream, [](void* argument) { seen = *watched + *static_cast<int*>(argument); }, value);
  expect(seen == 2, "the function did not run after the work before it");
  cudaStreamDestroy(stream);
}

static void copies_of_the_wrong_kind() {
  int *value = zero(), host = 0;
  expect(cudaMemcpy(&host, value, 4, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "to the device, but not to it");
  expect(cudaMemcpy(value, &host, 4, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue,
         "from the device, but not from it");
  expect(cudaMemcpy(value, &host, 8, cudaMemcpyHostToDevice) == cudaErrorInvalidValue, "past the end of an allocation");
  expect(cudaMemset(&host, 0, 4) == cudaErrorInvalidValue, "cudaMemset of the host's memory");
}

static void launches_that_no_gpu_takes() {
  expect(enqueue_kernel(1, 1025, 0, [] {}) == cudaErrorInvalidConfiguration, "1025 threads");
  expect(enqueue_kernel(1, 0, 0, [] {}) == cudaErrorInvalidConfiguration, "no threads");
  expect(enqueue_kernel(1, 32, 228 << 10, [] {}) == cudaErrorInvalidConfiguration, "228 KiB of shared memory");
  expect(enqueue_kernel(dim3(1, 65536), 32, 0, [] {}) == cudaErrorInvalidConfiguration, "65536 blocks in y");
  float* memory = nullptr;
  expect_fine(dim3(1, 0), 32, 0, [=] { *memory = 0; });  // nothing to do
}

static void overlap_without_its_wait() {
  const auto body = [] {};
  launch(kernel_of<decltype(body)>, 1, 32, 0, nullptr, body, Overlap::kYes);
  expect(cudaDeviceSynchronize() == cudaErrorLaunchFailure, "not seen");
  expect(fault_report().find("grid_dependency_wait") != std::string::npos, fault_report());
}

static const Cases cases{
    {"streams: work runs when it is waited for", work_runs_when_waited_for},
    {"streams: pinned memory is read late", pinned_memory_is_read_late},
    {"streams: the default one and blocking ones", the_default_stream_is_ordered_with_blocking_ones},
    {"streams: events", events_order_streams},
    {"streams: a graph replays what was captured", a_graph_replays_what_was_captured},
    {"streams: a host function needs no wait", a_host_function_needs_no_wait},
    {"streams: copies of the wrong kind", copies_of_the_wrong_kind},
    {"launch: what no GPU takes", launches_that_no_gpu_takes},
    {"launch: an overlap without its wait", overlap_without_its_wait},
};

}  // namespace cria::cuda::emulation::test
