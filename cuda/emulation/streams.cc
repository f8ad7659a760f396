#include "streams.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "context.h"

using cria::cuda::emulation::Queue;
using cria::cuda::emulation::Work;

struct CUgraph_st {
  std::vector<Work> work;
  int* counted;  // in the context, among those that forbid calls which wait; null for a relaxed capture
};

struct CUgraphExec_st {
  std::vector<Work> work;
};

struct CUstream_st {
  std::shared_ptr<Queue> queue;
  CUgraph_st* capture = nullptr;
};

struct CUevent_st {
  std::shared_ptr<Queue> queue;  // where it was recorded last
  std::uint64_t ticket = 0;
  std::chrono::steady_clock::time_point time;
  CUgraph_st* capture = nullptr;  // recorded in a stream under capture
};

namespace cria::cuda::emulation {

namespace {

struct Streams {
  CUstream_st legacy{std::make_shared<Queue>(Queue{true, {}, 0})};  // the default stream
  std::set<CUstream_st*> others;
};

Streams& streams() {
  static Streams& instance = *new Streams;
  return instance;
}

CUstream_st& stream_of(cudaStream_t stream) { return stream ? *stream : streams().legacy; }

// What a new piece of work in `queue` waits for in other streams: the default stream and the blocking ones take turns.
std::vector<std::pair<std::shared_ptr<Queue>, std::uint64_t>> dependencies(const Queue& queue) {
  std::vector<std::pair<std::shared_ptr<Queue>, std::uint64_t>> found;
  const auto add = [&](const std::shared_ptr<Queue>& other) {
    if (!other->waiting.empty()) found.emplace_back(other, other->last());
  };
  if (&queue == streams().legacy.queue.get()) {
    for (CUstream_st* stream : streams().others) {
      if (stream->queue->blocking) add(stream->queue);
    }
  } else if (queue.blocking) {
    add(streams().legacy.queue);
  }
  return found;
}

}  // namespace

cudaError_t enqueue(cudaStream_t stream, Work work) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  CUstream_st& to = stream_of(stream);
  if (to.capture) {
    to.capture->work.push_back(std::move(work));
    return cudaSuccess;
  }
  auto before = dependencies(*to.queue);
  if (before.empty()) {
    to.queue->waiting.push_back(std::move(work));
  } else {
    to.queue->waiting.push_back([before = std::move(before), work = std::move(work)] {
      for (const auto& [queue, ticket] : before) run_until(*queue, ticket);
      return work();
    });
  }
  return cudaSuccess;
}

void run_until(Queue& queue, std::uint64_t ticket) {
  const std::lock_guard lock(context().mutex);
  while (queue.done < ticket) {
    const Work work = std::move(queue.waiting.front());
    queue.waiting.pop_front();
    ++queue.done;
    // After a fault nothing runs: what is enqueued is dropped.
    if (!broken()) note(work());
  }
}

cudaError_t run_stream(cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  Queue& queue = *stream_of(stream).queue;
  run_until(queue, queue.last());
  return broken();
}

void run_all_streams() {
  run_stream(nullptr);
  for (CUstream_st* stream : streams().others) run_stream(stream);
}

bool capturing(cudaStream_t stream) { return stream_of(stream).capture != nullptr; }

void forget_streams() {
  const auto forget = [](CUstream_st& stream) {
    stream.queue->done += stream.queue->waiting.size();
    stream.queue->waiting.clear();
    stream.capture = nullptr;
  };
  forget(streams().legacy);
  for (CUstream_st* stream : streams().others) forget(*stream);
}

// A call that waits, or looks, while a capture forbids it.
static cudaError_t refused(const CUstream_st& stream) {
  if (broken()) return broken();
  return stream.capture || capture_forbids() ? note(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

// Polling lets one piece of work run: else who polls would wait forever.
static cudaError_t poll(Queue& queue, std::uint64_t ticket) {
  if (queue.done < ticket) run_until(queue, queue.done + 1);
  if (broken()) return broken();
  return queue.done < ticket ? cudaErrorNotReady : cudaSuccess;
}

}  // namespace cria::cuda::emulation

using namespace cria::cuda::emulation;

// --- streams ---

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  *stream = new CUstream_st{std::make_shared<Queue>(Queue{!(flags & cudaStreamNonBlocking), {}, 0})};
  streams().others.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (!stream) return note(cudaErrorInvalidResourceHandle);
  run_stream(stream);
  streams().others.erase(stream);
  delete stream;
  return broken();
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (const cudaError_t error = refused(stream_of(stream))) return error;
  return run_stream(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (const cudaError_t error = refused(stream_of(stream))) return error;
  Queue& queue = *stream_of(stream).queue;
  return poll(queue, queue.last());
}

cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(context().mutex);
  if (const cudaError_t error = refused(streams().legacy)) return error;
  run_all_streams();
  return broken();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* argument) {
  const std::lock_guard lock(context().mutex);
  const cudaError_t error = enqueue(stream, [=] {
    function(argument);
    return cudaSuccess;
  });
  // Nobody need wait for the stream: the function itself may be how the host learns of its end.
  return error || capturing(stream) ? error : run_stream(stream);
}

// --- events ---

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (broken()) return broken();
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const std::lock_guard lock(context().mutex);
  if (event->queue) run_until(*event->queue, event->ticket);
  delete event;
  return broken();
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  CUstream_st& in = stream_of(stream);
  event->capture = in.capture;
  if (in.capture) return broken();
  const cudaError_t error = enqueue(stream, [event] {
    event->time = std::chrono::steady_clock::now();
    return cudaSuccess;
  });
  event->queue = in.queue;
  event->ticket = in.queue->last();
  return error;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(context().mutex);
  // A stream that waits for a captured event joins its capture; a graph's work is in the order of its enqueuing.
  if (event->capture) stream_of(stream).capture = event->capture;
  if (event->capture || !event->queue) return broken();
  return enqueue(stream, [queue = event->queue, ticket = event->ticket] {
    run_until(*queue, ticket);
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(context().mutex);
  if (event->capture) return note(cudaErrorStreamCaptureUnsupported);
  if (event->queue) run_until(*event->queue, event->ticket);
  return broken();
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(context().mutex);
  if (event->capture) return note(cudaErrorStreamCaptureUnsupported);
  return event->queue ? poll(*event->queue, event->ticket) : broken();
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  if (!start->queue || !end->queue) return note(cudaErrorInvalidResourceHandle);
  if (start->queue->done < start->ticket || end->queue->done < end->ticket) return cudaErrorNotReady;
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

// --- graphs ---

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  if (!stream || stream->capture) return note(cudaErrorStreamCaptureUnsupported);
  int* counted = mode == cudaStreamCaptureModeRelaxed  ? nullptr
                 : mode == cudaStreamCaptureModeGlobal ? &context().captures
                                                       : &context().captures_of[std::this_thread::get_id()];
  stream->capture = new CUgraph_st{{}, counted};
  if (counted) ++*counted;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(context().mutex);
  *graph = nullptr;
  if (!stream || !stream->capture) return note(cudaErrorStreamCaptureInvalidated);
  *graph = stream->capture;
  if ((*graph)->counted) --*(*graph)->counted;
  (*graph)->counted = nullptr;
  for (CUstream_st* joined : streams().others) {
    if (joined->capture == *graph) joined->capture = nullptr;
  }
  return broken();
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (broken()) return broken();
  *executable = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  const std::lock_guard lock(context().mutex);
  if (broken()) return broken();
  for (const Work& work : executable->work) {
    if (const cudaError_t error = enqueue(stream, work)) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return broken();
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return broken();
}
