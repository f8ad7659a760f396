// What a program keeps on the device from run to run: its values, and the graphs that were captured over them.
#pragma once

#include <algorithm>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "../core/program.h"
#include "device.h"
#include "plan.h"

namespace cria::cuda {

// Memory that only grows. What it held is lost when it does.
template <class Buffer>
class Growing {
 public:
  bool holds(std::size_t bytes) const { return buffer_.bytes() >= bytes; }
  // At least twice of what it had, for what grows by a little again and again.
  std::size_t doubled(std::size_t bytes) const { return holds(bytes) ? bytes : std::max(bytes, 2 * buffer_.bytes()); }

  void reserve(const DevicePtr& device, std::size_t bytes) {
    if (holds(bytes)) return;
    buffer_ = Buffer();
    buffer_ = Buffer(device, bytes);
  }
  template <class T>
  T* data() const {
    return buffer_.template data<T>();
  }

 private:
  Buffer buffer_;
};

// Which batches a captured graph serves: those of these capacities, over this cache; of a decode step also with that
// many candidates.
struct GraphKey {
  std::uint64_t cache;
  Capacities capacities;
  std::size_t candidates;  // 0: not a decode step

  auto operator<=>(const GraphKey&) const = default;
};

class Graphs {
 public:
  explicit Graphs(DevicePtr device) : device_(std::move(device)) {}
  ~Graphs() {
    const std::lock_guard turn(device_->turn);
    clear();
  }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  // The graph of that key, captured the second time that it is asked for: a batch of capacities that never come again
  // would not earn back what capturing costs. `enqueue` puts the work on the stream. Returns null where there is none:
  // the first time, and where the device has no memory for it.
  template <class Enqueue>
  Graph find_or_capture(const GraphKey& key, const Enqueue& enqueue) {
    Known& known = known_[key];
    if (known.graph != nullptr || known.refused || known.asked++ == 0) return known.graph;
    if (captured_ >= kMostGraphs || known_.size() > kMostKeys) {
      clear();
      return nullptr;
    }
    try {
      known.graph = capture(enqueue);
      ++captured_;
    } catch (const Error& error) {
      if (error.status() != CRIA_ERROR_MEMORY) throw;
      known.refused = true;
    }
    return known.graph;
  }

  void clear() {
    for (const auto& [key, known] : known_) {
      if (known.graph != nullptr) device_->plugin.destroy_graph(known.graph);
    }
    known_.clear();
    captured_ = 0;
  }

 private:
  // Decode steps of every power of two of sequences and splits are some 50.
  static constexpr std::size_t kMostGraphs = 128;
  // Of batches that came once, too, so that what is remembered of them does not grow for ever.
  static constexpr std::size_t kMostKeys = 4096;

  struct Known {
    int asked = 0;
    bool refused = false;
    Graph graph = nullptr;
  };

  // Who puts work on the device's stream puts it on the other one meanwhile.
  template <class Enqueue>
  Graph capture(const Enqueue& enqueue) {
    device_->check(device_->plugin.begin_capture(device_->capture_stream), "beginning a capture");
    std::swap(device_->stream, device_->capture_stream);
    std::exception_ptr failure;
    try {
      enqueue();
    } catch (...) {
      failure = std::current_exception();
    }
    std::swap(device_->stream, device_->capture_stream);
    Graph graph = nullptr;
    const Status status = device_->plugin.end_capture(device_->capture_stream, &graph);
    if (failure) {
      if (graph != nullptr) device_->plugin.destroy_graph(graph);
      std::rethrow_exception(failure);
    }
    device_->check(status, "capturing a graph");
    return graph;
  }

  DevicePtr device_;
  std::map<GraphKey, Known> known_;
  std::size_t captured_ = 0;
};

struct Workspace {
  Workspace(const DevicePtr& device, const Program& program);

  // Makes room for a batch, of which attention leaves so many floats of partials. Before anything moves, the graphs
  // that were captured over it are gone.
  void reserve(const Program& program, const BatchPlan& plan, std::size_t partial_floats);

  template <class Buffer>
  void grow(Growing<Buffer>& memory, std::size_t bytes) {
    if (memory.holds(bytes)) return;
    graphs.clear();
    memory.reserve(device, bytes);
  }

  DevicePtr device;
  std::vector<Growing<DeviceMemory>> values;  // of each value of the program
  Growing<DeviceMemory> quants, scales;       // of the rows that are quantised
  Growing<DeviceMemory> partials;             // of attention
  Growing<DeviceMemory> batch;                // as BatchPlan lays it out
  std::vector<DeviceMemory> frequencies;      // of each kind of RoPE, f64
  std::vector<Growing<DeviceMemory>> cosines, sines;
  Growing<HostMemory> host_batch, host_result;

  // Of decoding: how each row is sampled, its candidates and token, the step that it is at, and all tokens so far.
  void reserve_decode(std::size_t rows, std::size_t candidates, std::size_t parts, std::size_t steps);
  Growing<DeviceMemory> sampling, partial_candidates, candidates, sampled, step, history;
  Growing<HostMemory> host_sampling;
  Graphs graphs;
};

}  // namespace cria::cuda
