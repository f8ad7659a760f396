// The threads of a process that compute, and how they share a list of steps.
//
// A step is cut into chunks, which the threads take one by one; it is done when its chunks are, not when every thread
// has arrived. So a thread that the system has taken off its core holds up at most the chunk it was in: the others take
// the rest, and pass on to the next step without it. (A barrier of all threads waits for the one that is not running,
// at every step.) Which thread computes a chunk changes no bit, by the kernels' contract.
//
// Chunks come in rounds of one for each thread, every round three quarters of what is left (factoring: Hummel,
// Schonberg and Flynn 1992): long runs at first, at which the processor's own prefetching stays, and small ones to end
// together.
//
//     2 threads   |      37 %      |      37 %      | 9 % | 9 % |2|2|..     down to the step's grain
//                   thread 0's       thread 1's       whoever comes
//
// The chunks of the first round have a thread each, so that what it read or wrote a token ago is in its own cache
// still; only when all else is taken does another thread take them.
//
// A step of one chunk is the caller's, and what the other threads wait for is the step before the next that has more:
// so small steps after one another cost no handing over.
//
// The caller's thread works too. Between runs the workers spin for some microseconds, for the next token may be on its
// way, and then sleep: an idle pool burns nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace cria::cpu {

struct Step {
  void (*run)(const void* context, std::size_t begin, std::size_t end);
  const void* context;
  std::size_t units;  // of work; may be 0
  std::size_t grain;  // units in the smallest chunks, at least 1; all of them: the step is one thread's
};

class Pool {
 public:
  // The pool of this process. It is never destroyed: its threads may outlive static destructors.
  static Pool& instance();

  // Runs the steps one after another on up to `threads` threads, the caller's among them. Where `cancel` is not null
  // and becomes true, the chunks that have not begun are passed over. Runs take turns.
  void run(std::span<const Step> steps, unsigned threads, const std::atomic<bool>* cancel = nullptr);

  // One step: run(begin, end) over [0, units).
  template <class Function>
  void parallel_for(std::size_t units, std::size_t grain, unsigned threads, const Function& function) {
    const auto call = [](const void* context, std::size_t begin, std::size_t end) {
      (*static_cast<const Function*>(context))(begin, end);
    };
    const Step step{call, &function, units, grain};
    run({&step, 1}, threads);
  }

 private:
  struct Job;

  void worker(unsigned index);
  void ensure_workers(unsigned count);

  std::mutex running_;  // held through a run
  std::mutex lock_;     // guards job_
  std::shared_ptr<Job> job_;
  std::atomic<std::uint32_t> epoch_{0};  // counts the jobs that were offered
  unsigned workers_ = 0;                 // guarded by running_
};

}  // namespace cria::cpu
