// Many threads over the same device, weights, program, cache and file, each call at any time: what cria.h allows. To be
// built with CRIA_SANITIZE=thread, which names every race; without, results are still compared, bit by bit.
//
//     cria_race_check [--threads 100] [--rounds 6] [--kind cpu|cuda-emulated]
//
// Prints "ok" with what was done, or the first thing that went wrong, and exits with 1.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <mutex>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "scenario.h"

namespace cria::check {
namespace {

struct Options {
  std::size_t threads = 100;
  int rounds = 6;
  cria_device_kind kind = CRIA_DEVICE_CPU;
};

// The cancel of each thread's run, for the others to trigger. It is taken back before it is freed.
class Cancels {
 public:
  explicit Cancels(std::size_t threads) : slots_(threads) {}

  void set(std::size_t thread, cria_cancel* cancel) {
    const std::lock_guard guard(lock_);
    slots_[thread] = cancel;
  }
  void trigger(std::size_t thread) {
    const std::lock_guard guard(lock_);
    cria_cancel_trigger(slots_[thread]);
  }

 private:
  std::mutex lock_;
  std::vector<cria_cancel*> slots_;
};

class Race {
 public:
  explicit Race(const Options& options)
      : options_(options),
        device_(open_device(options.kind, CRIA_ISA_AUTO, options.kind == CRIA_DEVICE_CPU ? 3 : 0)),
        model_(device_.get()),
        cache_(make_cache(device_.get(), kBlocks * options.threads)),
        file_(make<File>(cria_file_open, static_cast<const char*>(weights_.path))),
        cancels_(options.threads),
        begin_(static_cast<std::ptrdiff_t>(options.threads)) {
    model_.run(cache_.get(), 0, nullptr, logits_);
    model_.decode(cache_.get(), 0, nullptr, tokens_);
    kernels_ = use_kernels(device_.get());
    everything_ = everything(options.kind, CRIA_ISA_AUTO, threads_of(0), weights_);
  }

  // Returns whether nothing went wrong.
  bool run() {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < options_.threads; ++i) threads.emplace_back([this, i] { work(i); });
    for (std::thread& thread : threads) thread.join();
    return !failed_;
  }

  int done() const { return done_; }
  int cancelled() const { return cancelled_; }

 private:
  // A GPU has no threads to choose.
  std::uint32_t threads_of(unsigned drawn) const { return options_.kind == CRIA_DEVICE_CPU ? 1 + drawn % 4 : 0; }

  void work(std::size_t thread) {
    std::minstd_rand random(static_cast<unsigned>(thread) + 1);
    try {
      // What is made when it is first used is made by many at once.
      begin_.arrive_and_wait();
      use_file(device_.get(), options_.kind, file_.get());
      for (int round = 0; round < options_.rounds && !failed_; ++round, ++done_) step(thread, random);
    } catch (const Failure& failure) {
      fail(failure.status, failure.sentence);
    }
  }

  void step(std::size_t thread, std::minstd_rand& random) {
    const auto first = static_cast<std::int32_t>(kBlocks * thread);
    switch (random() % 8) {
      case 0:
        expect(everything(options_.kind, CRIA_ISA_AUTO, threads_of(static_cast<unsigned>(random())), weights_) ==
                   everything_,
               "a device of a thread's own gave other results");
        break;
      case 1:
        expect(use_kernels(device_.get()) == kernels_, "a single kernel gave other results");
        break;
      case 2:
        use_file(device_.get(), options_.kind, file_.get());
        break;
      case 3:
        use_wrongly(device_.get());
        cancels_.trigger(random() % options_.threads);
        break;
      case 4:
        decode(first);
        break;
      case 5:
        run_cancelled(thread, first);
        break;
      default:
        run_shared(first);
        use_cache(cache_.get(), first);
    }
  }

  void run_shared(std::int32_t first) {
    Logits logits;
    model_.run(cache_.get(), first, nullptr, logits);
    expect(std::memcmp(logits.data(), logits_.data(), sizeof(logits)) == 0, "a run gave other logits");
  }

  void decode(std::int32_t first) {
    Tokens tokens;
    model_.decode(cache_.get(), first, nullptr, tokens);
    expect(tokens == tokens_, "a decode drew other tokens");
  }

  // Whole, or refused; never something between.
  void run_cancelled(std::size_t thread, std::int32_t first) {
    const Cancel cancel = make<Cancel>(cria_cancel_create);
    cancels_.set(thread, cancel.get());
    Logits logits;
    try {
      model_.run(cache_.get(), first, cancel.get(), logits);
      cancels_.set(thread, nullptr);
      expect(std::memcmp(logits.data(), logits_.data(), sizeof(logits)) == 0, "a run that may be cancelled went wrong");
    } catch (const Failure& failure) {
      cancels_.set(thread, nullptr);
      if (failure.status != CRIA_ERROR_ABORTED) throw;
      ++cancelled_;
    }
  }

  void expect(bool right, const char* what) {
    if (!right) fail(CRIA_OK, what);
  }

  void fail(cria_status status, const char* what) {
    if (!failed_.exchange(true)) std::printf("not ok status %d: %s\n", status, what);
  }

  const Options options_;
  const WeightsFile weights_;
  const Device device_;
  const Model model_;
  const Cache cache_;
  const File file_;
  Cancels cancels_;
  std::latch begin_;
  Logits logits_{};
  Tokens tokens_{};
  std::uint64_t kernels_ = 0, everything_ = 0;
  std::atomic<bool> failed_{false};
  std::atomic<int> done_{0}, cancelled_{0};
};

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string_view name = arguments[i], value = arguments[i + 1];
    if (name == "--threads") options.threads = std::strtoul(arguments[i + 1], nullptr, 10);
    if (name == "--rounds") options.rounds = std::atoi(arguments[i + 1]);
    if (name == "--kind" && value == "cuda-emulated") options.kind = CRIA_DEVICE_CUDA_EMULATED;
  }
  return options;
}

}  // namespace
}  // namespace cria::check

int main(int count, char** arguments) {
  using namespace cria::check;
  const Options options = parse(count, arguments);
  try {
    Race race(options);
    if (!race.run()) return 1;
    std::printf("ok %zu threads, %d rounds, %d runs cancelled\n", options.threads, race.done(), race.cancelled());
  } catch (const Failure& failure) {
    std::printf("not ok status %d: %s\n", failure.status, failure.sentence);
    return 1;
  }
}
