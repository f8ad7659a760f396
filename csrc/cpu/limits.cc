#include "limits.h"

#include <atomic>
#include <chrono>
#include <cstring>

#include "../core/error.h"
#include "executor.h"
#include "kernels.h"
#include "memory.h"
#include "panel.h"
#include "pool.h"

namespace cria::cpu {
namespace {

// The memory that is read, or copied from one half to the other: many times any cache.
constexpr std::size_t kBytes = std::size_t{512} << 20, kLines = kBytes / kLine;

// Some 4 ms of a peak's loop on each thread, in steps of some 8 us: short enough that some samples pass undisturbed on
// a shared machine, and cut so that threads end together.
constexpr std::size_t kTurns = 4096, kStepsPerThread = 512;

// Runs pass(), and once before, for pages, threads and clocks to be awake, and puts `amount` over each time in `rates`.
template <class Pass>
void sample(double amount, std::span<double> rates, const Pass& pass) {
  pass();
  for (double& rate : rates) {
    const auto begin = std::chrono::steady_clock::now();
    pass();
    rate = amount / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
}

// Samples pass(memory, from, to) over `lines` lines in chunks as a matrix product's, each line standing for `bytes`.
template <class Pass>
void measure_memory(std::size_t lines, std::size_t bytes, unsigned threads, std::span<double> rates, const Pass& pass) {
  if (rates.empty()) return;
  const Memory memory(kBytes);
  const auto share = [&](const auto& work) { Pool::instance().parallel_for(lines, grain(bytes), threads, work); };
  // Pages that were never written are all the same zero page, which a cache holds.
  share([&](std::size_t from, std::size_t to) { std::memset(memory.data() + from * bytes, 1, (to - from) * bytes); });
  sample(kBytes, rates, [&] { share([&](std::size_t from, std::size_t to) { pass(memory.data(), from, to); }); });
}

void measure_read(unsigned threads, std::span<double> rates) {
  const auto read = isa_available(CRIA_ISA_AVX2) ? avx2::read : scalar::read;
  std::atomic<std::uint64_t> total{0};
  measure_memory(kLines, kLine, threads, rates, [&](const std::uint8_t* data, std::size_t from, std::size_t to) {
    total += read(data + from * kLine, to - from);
  });
}

// From the first half to the second.
void measure_copy(unsigned threads, std::span<double> rates) {
  const auto copy = isa_available(CRIA_ISA_AVX2) ? avx2::copy : scalar::copy;
  measure_memory(kLines / 2, 2 * kLine, threads, rates, [&](std::uint8_t* data, std::size_t from, std::size_t to) {
    copy(data + from * kLine, data + kBytes / 2 + from * kLine, to - from);
  });
}

// A peak's loop, and the operations of one of its chains in one turn.
struct Peak {
  void (*run)(std::size_t turns);
  double operations;
};

// A lane's multiply-add is two operations, a sum of products two for each of them.
constexpr double kYmmFloats = 8, kYmmBytes = 32, kZmmFloats = 16, kZmmHalves = 32, kZmmBytes = 64;

// Nothing where the processor or `isa` lacks it.
Peak peak_of(cria_isa isa, cria_limit limit) {
  const bool wide = isa == CRIA_ISA_AVX512;
  switch (limit) {
    case CRIA_LIMIT_FMA:
      if (wide) return {avx512::fma, 2 * kZmmFloats};
      if (isa == CRIA_ISA_AVX2) return {avx2::fma, 2 * kYmmFloats};
      return {};
    case CRIA_LIMIT_MADDUBS:
      if (isa != CRIA_ISA_SCALAR) return {avx2::maddubs, 2 * kYmmBytes};
      return {};
    case CRIA_LIMIT_DPBUSD:
      if (wide) return {avx512::dpbusd, 2 * kZmmBytes};
      return {};
    default:
      if (wide && __builtin_cpu_supports("avx512bf16")) return {avx512::bf16dot, 2 * kZmmHalves};
      return {};
  }
}

void measure_peak(const Peak& peak, unsigned threads, std::span<double> rates) {
  if (peak.run == nullptr) {
    throw Error(CRIA_ERROR_UNSUPPORTED, "limit: the processor, or the device's instruction set, lacks the instruction");
  }
  const std::size_t steps = kStepsPerThread * threads;
  sample(static_cast<double>(steps * kTurns * kChains) * peak.operations, rates, [&] {
    Pool::instance().parallel_for(steps, 1, threads,
                                  [&](std::size_t from, std::size_t to) { peak.run((to - from) * kTurns); });
  });
}

}  // namespace

void measure_limit(cria_isa isa, cria_limit limit, unsigned threads, std::span<double> rates) {
  switch (limit) {
    case CRIA_LIMIT_READ:
      return measure_read(threads, rates);
    case CRIA_LIMIT_COPY:
      return measure_copy(threads, rates);
    default:
      return measure_peak(peak_of(isa, limit), threads, rates);
  }
}

}  // namespace cria::cpu
