#include "pool.h"

#include <immintrin.h>

#include <algorithm>
#include <system_error>

#include "panel.h"

namespace cria::cpu {
namespace {

// A pause is 40 to 140 cycles: these are some 30 and 15 microseconds. A chunk is rarely longer than the first; the
// second covers the time from one run to the next when the caller asks at once, and little of the time of one who
// samples first.
constexpr int kChunkSpins = 1024;
constexpr int kIdleSpins = 512;

// Waits until `value` is no longer `old`: awake for a while, then asleep.
std::uint32_t await_change(const std::atomic<std::uint32_t>& value, std::uint32_t old, int spins) {
  for (int spin = 0; spin < spins; ++spin) {
    const std::uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    _mm_pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

// How a step is cut into chunks.
struct Cut {
  explicit Cut(const Step& step, unsigned threads)
      : units(step.units), grain(step.grain), head(step.head), heads(step.head > 0 ? threads : 0) {}

  std::size_t headed() const { return heads * head; }
  std::uint32_t chunks() const { return static_cast<std::uint32_t>(heads + (units - headed() + grain - 1) / grain); }
  std::size_t begin(std::size_t chunk) const {
    return chunk < heads ? chunk * head : std::min(units, headed() + (chunk - heads) * grain);
  }

  std::size_t units, grain, head, heads;
};

}  // namespace

// A run in progress. A worker that wakes late, or is off its core as the run ends, may still hold its job: it finds
// every chunk taken and leaves. It reads `steps`, the caller's, only while it holds a chunk, which the run waits for.
struct Pool::Job {
  struct alignas(kLine) Progress {
    std::atomic<std::uint32_t> next{0};  // chunk to be taken
    std::atomic<std::uint32_t> done{0};  // chunks
    std::uint32_t chunks = 0;
  };

  Job(std::span<const Step> steps, unsigned threads, const std::atomic<bool>* cancel)
      : steps(steps), threads(threads), cancel(cancel), progress(steps.size()) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      progress[i].chunks = Cut(steps[i], threads).chunks();
    }
  }

  void work() {
    for (std::size_t i = 0; i < progress.size(); ++i) {
      Progress& p = progress[i];
      for (std::uint32_t c; (c = p.next.fetch_add(1, std::memory_order_relaxed)) < p.chunks;) {
        const Step& step = steps[i];
        const Cut cut(step, threads);
        const bool cancelled = cancel != nullptr && cancel->load(std::memory_order_relaxed);
        if (!cancelled) step.run(step.context, cut.begin(c), cut.begin(c + 1));
        if (p.done.fetch_add(1, std::memory_order_acq_rel) + 1 == p.chunks) p.done.notify_all();
      }
      for (std::uint32_t done = p.done.load(std::memory_order_acquire); done != p.chunks;) {
        done = await_change(p.done, done, kChunkSpins);
      }
    }
  }

  const std::span<const Step> steps;
  const unsigned threads;
  const std::atomic<bool>* const cancel;
  std::vector<Progress> progress;
};

Pool& Pool::instance() {
  static Pool* const pool = new Pool;
  return *pool;
}

void Pool::ensure_workers(unsigned count) {
  try {
    for (; workers_ < count; ++workers_) {
      std::thread([this, index = workers_ + 1] { worker(index); }).detach();
    }
  } catch (const std::system_error&) {
    // The system grants no more threads. Those there are, the caller's at least, take the chunks of the others.
  }
}

void Pool::worker(unsigned index) {
  for (std::uint32_t seen = 0;;) {
    seen = await_change(epoch_, seen, kIdleSpins);
    std::shared_ptr<Job> job;
    {
      const std::lock_guard guard(lock_);
      job = job_;
    }
    if (job != nullptr && index < job->threads) job->work();
  }
}

void Pool::run(std::span<const Step> steps, unsigned threads, const std::atomic<bool>* cancel) {
  const std::lock_guard turn(running_);
  const auto job = std::make_shared<Job>(steps, threads, cancel);
  if (threads > 1) {
    ensure_workers(threads - 1);
    {
      const std::lock_guard guard(lock_);
      job_ = job;
    }
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }
  job->work();
  if (threads > 1) {
    const std::lock_guard guard(lock_);
    job_.reset();
  }
}

}  // namespace cria::cpu
