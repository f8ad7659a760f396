#include "pool.h"

#include <immintrin.h>

#if !defined(_WIN32)
#include <csignal>
#endif

#include <algorithm>
#include <system_error>

namespace cria::cpu {
namespace {

// A pause is 40 to 140 cycles: these are 10 to 40 and 5 to 20 microseconds. The first covers what is waited for within
// a run: the last chunk of a step, some 64 KiB of work, or a few small steps of the caller's in a row. The second
// covers the time from one run to the next when the caller asks at once, and little of the time of one who samples
// first.
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

// While it lives, threads that are started are sent no signal of the host's, whose handlers may expect its own threads
// (those of Go and of the JVM do). A fault of the thread itself still is one.
class SignalsBlocked {
#if !defined(_WIN32)
 public:
  SignalsBlocked() {
    sigset_t signals;
    sigfillset(&signals);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}) sigdelset(&signals, fault);
    pthread_sigmask(SIG_SETMASK, &signals, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
#endif
};

// Units [begin, end) of a step.
struct Range {
  std::size_t begin, end;
};

// A step's chunk of that index.
Range chunk(const Step& step, unsigned threads, std::size_t index) {
  for (std::size_t begin = 0;;) {
    const std::size_t size = (step.units - begin) * 3 / 4 / threads;
    if (size <= step.grain) {
      begin += index * step.grain;
      return {begin, std::min(step.units, begin + step.grain)};
    }
    if (index < threads) return {begin + index * size, begin + (index + 1) * size};
    begin += threads * size;
    index -= threads;
  }
}

std::uint32_t count_chunks(const Step& step, unsigned threads) {
  std::size_t count = 0;
  for (std::size_t begin = 0;; count += threads) {
    const std::size_t left = step.units - begin, size = left * 3 / 4 / threads;
    if (size <= step.grain) return static_cast<std::uint32_t>(count + (left + step.grain - 1) / step.grain);
    begin += threads * size;
  }
}

}  // namespace

// A run in progress. A worker that wakes late, or is off its core as the run ends, may still hold its job: it finds
// every chunk taken and leaves. It reads `steps`, the caller's, only while it holds a chunk, which the run waits for.
struct Pool::Job {
  // How far a step is. The first `homes` chunks have a thread each.
  struct alignas(64) Progress {
    std::atomic<std::uint32_t> next{0};   // of the chunks after the homes, the one to be taken
    std::atomic<std::uint32_t> taken{0};  // a bit for each home
    std::atomic<std::uint32_t> done{0};   // chunks
    std::uint32_t chunks = 0, homes = 0;
    Progress* before = nullptr;  // of the last step before that has chunks

    // Waits for the step's last chunk.
    void await() const {
      for (std::uint32_t now = done.load(std::memory_order_acquire); now != chunks;) {
        now = await_change(done, now, kChunkSpins);
      }
    }

    bool take_home(std::uint32_t home) {
      const std::uint32_t bit = std::uint32_t{1} << home;
      return (taken.load(std::memory_order_relaxed) & bit) == 0 &&
             (taken.fetch_or(bit, std::memory_order_relaxed) & bit) == 0;
    }

    // A chunk for `thread`; `chunks` where all are taken.
    std::uint32_t take(unsigned thread) {
      if (thread < homes && take_home(thread)) return thread;
      if (next.load(std::memory_order_relaxed) < chunks) {
        const std::uint32_t index = next.fetch_add(1, std::memory_order_relaxed);
        if (index < chunks) return index;
      }
      for (std::uint32_t home = 0; home < homes; ++home) {
        if (take_home(home)) return home;
      }
      return chunks;
    }
  };
  static constexpr std::uint32_t kMostHomes = 32;  // bits of `taken`

  Job(std::span<const Step> steps, unsigned threads, const std::atomic<bool>* cancel)
      : steps(steps), threads(threads), cancel(cancel), progress(steps.size()) {
    Progress* before = nullptr;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      Progress& p = progress[i];
      p.chunks = count_chunks(steps[i], threads);
      p.homes = std::min({p.chunks, threads, kMostHomes});
      p.next.store(p.homes, std::memory_order_relaxed);
      p.before = before;
      if (p.chunks > 0) before = &p;
      shared = shared || (threads > 1 && p.chunks > 1);
    }
    last = before;
  }

  void work(unsigned thread) {
    for (std::size_t i = 0; i < progress.size(); ++i) {
      Progress& p = progress[i];
      if (p.chunks == 0 || (p.chunks == 1 && thread != 0)) continue;
      // With the step before all before it are done.
      if (p.before != nullptr) p.before->await();
      for (std::uint32_t index; (index = p.take(thread)) < p.chunks;) {
        const Step& step = steps[i];
        const Range range = chunk(step, threads, index);
        const bool cancelled = cancel != nullptr && cancel->load(std::memory_order_relaxed);
        if (!cancelled) step.run(step.context, range.begin, range.end);
        if (p.done.fetch_add(1, std::memory_order_acq_rel) + 1 == p.chunks) p.done.notify_all();
      }
    }
    // The run ends with its last step, which the caller waits for.
    if (thread == 0 && last != nullptr) last->await();
  }

  const std::span<const Step> steps;
  const unsigned threads;
  const std::atomic<bool>* const cancel;
  std::vector<Progress> progress;
  Progress* last = nullptr;  // that has chunks
  bool shared = false;       // whether any step has chunks for more than one thread
};

Pool& Pool::instance() {
  static Pool* const pool = new Pool;
  return *pool;
}

void Pool::ensure_workers(unsigned count) {
  if (workers_ >= count) return;
  [[maybe_unused]] const SignalsBlocked blocked;
  try {
    for (; workers_ < count; ++workers_) {
      std::thread([this, index = workers_ + 1] { worker(index); }).detach();
    }
  } catch (const std::system_error&) {
    // The system grants no more threads. Those there are, the caller's at least, take the chunks of the others.
  }
}

void Pool::worker(unsigned index) {
  int spins = kIdleSpins;
  for (std::uint32_t seen = 0;;) {
    seen = await_change(epoch_, seen, spins);
    std::shared_ptr<Job> job;
    {
      const std::lock_guard guard(lock_);
      job = job_;
    }
    if (job == nullptr) continue;
    // One that the last run had no use for is not likely to be wanted soon.
    spins = index < job->threads ? kIdleSpins : 0;
    if (index < job->threads) job->work(index);
  }
}

void Pool::run(std::span<const Step> steps, unsigned threads, const std::atomic<bool>* cancel) {
  const std::lock_guard turn(running_);
  const auto job = std::make_shared<Job>(steps, threads, cancel);
  if (job->shared) {
    ensure_workers(threads - 1);
    {
      const std::lock_guard guard(lock_);
      job_ = job;
    }
    epoch_.fetch_add(1, std::memory_order_release);
    epoch_.notify_all();
  }
  job->work(0);
  if (job->shared) {
    const std::lock_guard guard(lock_);
    job_.reset();
  }
}

}  // namespace cria::cpu
