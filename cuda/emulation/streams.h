// Streams: queues of work that runs as late as it may.
//
// On a GPU the work of a stream may run at any time between its enqueuing and the call that waits for it. Here it runs
// in that call: a host that reads a result, or reuses a pinned buffer, too soon does so in every run.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "runtime.h"

namespace cria::cuda::emulation {

using Work = std::function<cudaError_t()>;

/// A stream's work. Each piece has a ticket: 1, 2, 3, ...
struct Queue {
  bool blocking;  // ordered with the default stream, both ways
  std::deque<Work> waiting;
  std::uint64_t done = 0;
  std::uint64_t last() const { return done + waiting.size(); }
};

/// Puts work last in a stream, or into the graph that captures it.
cudaError_t enqueue(cudaStream_t stream, Work work);
/// Runs a stream's work up to and with `ticket`, and what that waits for.
void run_until(Queue& queue, std::uint64_t ticket);
/// Runs all of a stream's work.
cudaError_t run_stream(cudaStream_t stream);
void run_all_streams();
bool capturing(cudaStream_t stream);
void forget_streams();

}  // namespace cria::cuda::emulation
