// The system refusing the N-th request for memory or a thread, for each N until all of cria.h's work (scenario.h) gets
// through untouched, each time in a process of its own: what fails must say CRIA_ERROR_MEMORY, hold nothing any more,
// and do the next time.
//
//     cria_fault_check [--kind cpu|cuda-emulated] [--on] [--step 1]
//
// With --on every request from the N-th on is refused, and N goes up by --step. Of the emulated GPU's memory, which
// keeps stacks for its threads, only the statuses and results are checked.
//
// Prints a line for each N that is not ok, then the totals, and exits with 1 where there was any.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "allocations.h"
#include "scenario.h"

namespace cria::check {
namespace {

// What a child exits with.
enum Outcome { kUntouched = 10, kSurvived = 11, kRefused = 12, kBroken = 13 };

struct Trial {
  cria_device_kind kind;
  Refuse how;
  long step;
  const WeightsFile& weights;

  std::uint64_t work() const { return everything(kind, CRIA_ISA_AUTO, kind == CRIA_DEVICE_CPU ? 2 : 0, weights); }
};

// Without memory of its own; the parent has flushed what it printed.
int complain(long nth, const char* what, const char* sentence) {
  char line[512];
  const int length = std::snprintf(line, sizeof(line), "not ok %ld: %s: %.400s\n", nth, what, sentence);
  if (::write(STDOUT_FILENO, line, static_cast<std::size_t>(length)) < 0) std::perror("stdout");
  return kBroken;
}

// A pool's thread that woke late holds its job until it has run: on a busy machine for seconds.
bool settles_to(long expected) {
  for (int i = 0; i < 20000 && living() != expected; ++i) ::usleep(500);
  return living() == expected;
}

struct Baseline {
  std::uint64_t digest;
  long living;  // once everything was done: what the library keeps for as long as the process lives
};

int attempt(const Trial& trial, long nth, const Baseline& whole) {
  Outcome outcome = kSurvived;
  refuse(nth, trial.how);
  try {
    if (trial.work() != whole.digest) {
      grant();
      return complain(nth, "other results", "");
    }
  } catch (const Failure& failure) {
    grant();
    if (failure.status != CRIA_ERROR_MEMORY) return complain(nth, "another status", failure.sentence);
    if (failure.sentence[0] == '\0') return complain(nth, "no sentence", "");
    outcome = kRefused;
  }
  if (grant() < nth) outcome = kUntouched;
  try {
    if (trial.work() != whole.digest) return complain(nth, "other results the next time", "");
  } catch (const Failure& failure) {
    return complain(nth, "a failure the next time", failure.sentence);
  }
  if (trial.kind == CRIA_DEVICE_CPU && !settles_to(whole.living)) {
    char counts[64];
    std::snprintf(counts, sizeof(counts), "%ld, not %ld", living(), whole.living);
    return complain(nth, "memory held", counts);
  }
  return outcome;
}

// In a child, so that nothing is there before: no thread, no memory, nothing loaded.
template <class Work>
int in_child(const Work& work) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);  // one that hangs
    ::_exit(work());
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return kBroken;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  std::printf("ended by signal %d: ", WTERMSIG(status));
  return kBroken;
}

// What a child that is refused nothing gives, twice, since what is kept is taken in the first. A second for each, for
// the pool's thread to have begun, and ended, on a busy machine too: what it takes when it begins is kept.
bool measure(const Trial& trial, Baseline& whole) {
  int pipes[2];
  if (::pipe(pipes) != 0) return false;
  const int status = in_child([&] {
    try {
      Baseline measured{trial.work(), 0};
      ::sleep(1);
      if (trial.work() != measured.digest) return 1;
      ::sleep(1);
      measured.living = living();
      return ::write(pipes[1], &measured, sizeof(measured)) == sizeof(measured) ? 0 : 1;
    } catch (const Failure& failure) {
      return complain(0, "nothing is refused", failure.sentence);
    }
  });
  return status == 0 && ::read(pipes[0], &whole, sizeof(whole)) == sizeof(whole);
}

int sweep(const Trial& trial) {
  Baseline whole{};
  if (!measure(trial, whole)) {
    std::printf("not ok: without a refusal it fails too\n");
    return 1;
  }
  int survived = 0, refused = 0, broken = 0;
  for (long nth = 1;; nth += trial.step) {
    const int outcome = in_child([&] { return attempt(trial, nth, whole); });
    if (outcome == kUntouched) break;
    survived += outcome == kSurvived;
    refused += outcome == kRefused;
    if (outcome == kSurvived || outcome == kRefused) continue;
    std::printf("request %ld\n", nth);
    ++broken;
  }
  std::printf("%s %d requests: %d refusals failed their call, %d did not matter, %d went wrong\n",
              broken == 0 ? "ok" : "not ok", survived + refused + broken, refused, survived, broken);
  return broken == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cria::check

int main(int count, char** arguments) {
  using namespace cria::check;
  cria_device_kind kind = CRIA_DEVICE_CPU;
  Refuse how = Refuse::kOnce;
  long step = 1;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "cuda-emulated") == 0) kind = CRIA_DEVICE_CUDA_EMULATED;
    if (std::strcmp(arguments[i], "--on") == 0) how = Refuse::kOn;
    if (std::strcmp(arguments[i], "--step") == 0 && i + 1 < count) step = std::max(1L, std::atol(arguments[i + 1]));
  }
  try {
    const WeightsFile weights;
    cria_device_info info{.struct_size = sizeof(cria_device_info)};
    require(cria_device_describe(kind, &info));  // loads the plugin: what dlopen makes of a refusal is not ours
    return sweep({kind, how, step, weights});
  } catch (const Failure& failure) {
    std::printf("not ok: %s\n", failure.sentence);
    return 1;
  }
}
