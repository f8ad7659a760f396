#include "timer.h"

#include <algorithm>
#include <cmath>

namespace cria::cuda::check {
namespace {

// A sample takes some milliseconds, a thousand times what an event is off by, unless one launch takes longer.
constexpr double kSampleMicros = 5000.0;
constexpr int kSamples = 9, kMostLaunches = 4096;
static_assert(kMostLaunches >= kMostOperands);

// A captured sequence of launches.
class Launches {
 public:
  Launches(Checks& checks, int count, int rotation, const std::function<void(int)>& launch) : checks_(checks) {
    checks.require(checks.plugin.begin_capture(checks.stream), "begin_capture");
    for (int i = 0; i < count; ++i) launch(i % rotation);
    checks.require(checks.plugin.end_capture(checks.stream, &graph_), "end_capture");
  }
  ~Launches() { checks_.plugin.destroy_graph(graph_); }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  void run() const { checks_.require(checks_.plugin.launch_graph(graph_, checks_.stream), "launch_graph"); }

 private:
  Checks& checks_;
  Graph graph_ = nullptr;
};

}  // namespace

Time time_of(std::vector<double> micros) {
  std::sort(micros.begin(), micros.end());
  const auto part = [&](double share) {
    return micros[static_cast<std::size_t>(std::lround(share * static_cast<double>(micros.size() - 1)))];
  };
  return {part(0.5), (part(0.9) - part(0.1)) / part(0.5), static_cast<int>(micros.size())};
}

Timer::Timer(Checks& checks) : checks_(checks) {
  checks.require(checks.plugin.create_event(&first_), "create_event");
  checks.require(checks.plugin.create_event(&last_), "create_event");
}

Timer::~Timer() {
  checks_.plugin.destroy_event(first_);
  checks_.plugin.destroy_event(last_);
}

Time Timer::operator()(int rotation, const std::function<void(int)>& launch) {
  const double once = sample(rotation, rotation, 1, launch).front();
  const double most = kMostLaunches / rotation;
  const int turns = static_cast<int>(std::clamp(kSampleMicros / (once * rotation), 1.0, most));
  return time_of(sample(turns * rotation, rotation, kSamples, launch));
}

// Microseconds a launch, of each sample. Once before them the graph is only warmed up.
std::vector<double> Timer::sample(int launches, int rotation, int samples, const std::function<void(int)>& launch) {
  const Launches graph(checks_, launches, rotation, launch);
  std::vector<double> micros;
  for (int i = -1; i < samples; ++i) {
    checks_.require(checks_.plugin.record_event(first_, checks_.stream), "record_event");
    graph.run();
    checks_.require(checks_.plugin.record_event(last_, checks_.stream), "record_event");
    float milliseconds = 0.0f;
    checks_.require(checks_.plugin.milliseconds(first_, last_, &milliseconds), "milliseconds");
    if (i >= 0) micros.push_back(1e3 * milliseconds / launches);
  }
  return micros;
}

Filled::Filled(Checks& checks, std::size_t bytes) : checks_(checks) {
  checks.require(checks.plugin.allocate(&memory_, bytes), "allocate");
  std::vector<std::uint16_t> words(std::min(bytes, kRotationBytes) / 2 + 1);
  for (std::uint16_t& word : words) word = static_cast<std::uint16_t>((checks.random() & 0x83ff) | 0x3400);
  for (std::size_t done = 0; done < bytes; done += kRotationBytes) {
    const std::size_t part = std::min(bytes - done, kRotationBytes);
    checks.require(checks.plugin.copy(at(done), words.data(), part, checks.stream), "copy");
  }
  checks.require(checks.plugin.synchronize(checks.stream), "synchronize");
}

Filled::~Filled() { checks_.plugin.free(memory_); }

}  // namespace cria::cuda::check
