// A real kernel is right in every order, and wrong, somewhere, without any one of its synchronisations.
#include "gemm.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <numeric>
#include <random>

#include "core/half.h"
#include "emulation/counters.h"
#include "every_instruction.h"
#include "test.h"

namespace cria::cuda::emulation::test {

static Gemm random_gemm() {
  const int m = 128, n = 64, k = 160;
  std::minstd_rand random;
  const auto matrix = [&](int count) {
    auto* values = device_array<unsigned short>(count);
    for (int i = 0; i < count; ++i) values[i] = float_to_half(static_cast<int>(random() % 2001 - 1000) / 1000.0f);
    return values;
  };
  return {matrix(m * k), matrix(n * k), device_array<float>(m * n), m, n, k};
}

// The largest error, infinite where there is a NaN.
static double error_of(const Gemm& op) {
  double worst = 0;
  for (int i = 0; i < op.m; ++i) {
    for (int j = 0; j < op.n; ++j) {
      double sum = 0;
      for (int k = 0; k < op.k; ++k) {
        sum += static_cast<double>(half_to_float(op.a[i * op.k + k])) * half_to_float(op.b[j * op.k + k]);
      }
      const double error = std::fabs(sum - op.c[i * op.n + j]);
      if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
    }
  }
  return worst;
}

constexpr double kTolerance = 1e-5;  // 160 products of up to 1, each sum rounded to 2^-24 of up to 16

static void is_right_in_every_order() {
  for (const Order order : kOrders) {
    schedule(order);
    const Gemm op = random_gemm();
    reset_counters();
    expect(gemm<LeftOut::kNothing>(op, nullptr) == 0 && cudaDeviceSynchronize() == 0, fault_report());
    expect(error_of(op) <= kTolerance, "wrong by " + std::to_string(error_of(op)));
    const Counters counted = counters().begin()->second;
    expect(counted.mma == 8u * 8 * 10 && counted.blocks == 2, "wrong counts");
    expect(counted.cp_async_bytes == 2u * 2 * 64 * 160 * 2, "wrong bytes");
    expect(counted.ldmatrix_conflicts == 0, "the pitch has conflicts");
  }
}

template <LeftOut kLeftOut>
static void is_seen() {
  int seen = 0;
  for (const Order order : kOrders) {
    schedule(order);
    const Gemm op = random_gemm();
    const bool failed = gemm<kLeftOut>(op, nullptr) != 0 || cudaDeviceSynchronize() != 0;
    seen += failed || !(error_of(op) <= kTolerance);
    forget_error();
  }
  expect(seen > 0, "not seen in any order");
}

// The threads of two blocks in the order in which they ran.
static std::vector<int> turns(Order order, std::uint32_t seed = 1) {
  schedule(order, seed);
  int* next = device_array<int>(1);
  int* turns = device_array<int>(256);
  *next = 0;
  expect_fine(2, 128, 0, [=] { turns[atomicAdd(next, 1)] = blockIdx.x * 128 + threadIdx.x; });
  return {turns, turns + 256};
}

static void orders_are_what_they_say() {
  std::vector<int> forward(256), reverse(256);
  std::iota(forward.begin(), forward.end(), 0);
  std::iota(reverse.rbegin(), reverse.rend(), 0);
  expect(turns(Order::kForward) == forward, "forward is not");
  expect(turns(Order::kReverse) == reverse, "reverse is not");
}

static void random_orders_are_by_seed() {
  const std::vector<int> order = turns(Order::kRandom, 1);
  expect(order == turns(Order::kRandom, 1), "a seed does not repeat");
  expect(order != turns(Order::kRandom, 2), "seeds do not differ");
  // Warp 0's lanes, wherever they came.
  std::vector<int> lanes;
  std::copy_if(order.begin(), order.end(), std::back_inserter(lanes), [](int thread) { return thread < 32; });
  expect(!std::is_sorted(lanes.begin(), lanes.end()), "lanes take turns in their order");
  std::sort(lanes.begin(), lanes.end());
  for (int lane = 0; lane < 32; ++lane) expect(lanes[lane] == lane, "a lane ran twice or never");
}

static void every_instruction_runs() {
  auto* bytes = device_array<unsigned char>(8192);
  for (int i = 0; i < 8192; ++i) bytes[i] = static_cast<unsigned char>(i % 3);
  int* out = device_array<int>(128);
  for (const Order order : kOrders) {
    schedule(order);
    expect(every_instruction({bytes, out}, nullptr) == 0 && cudaDeviceSynchronize() == 0, fault_report());
  }
}

// The price of a collective, for those who ask why a test takes long.
static void costs() {
  const auto nanoseconds = [](const char* what, auto body) {
    constexpr int kTimes = 1000, kRuns = 5;
    double least = INFINITY;
    for (int run = 0; run < kRuns; ++run) {
      const auto start = std::chrono::steady_clock::now();
      expect_fine(1, 32, 512, [=] {
        for (int i = 0; i < kTimes; ++i) body();
      });
      const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
      least = std::min(least, time.count() / kTimes);
    }
    std::printf("# %s: %.0f ns\n", what, least);
  };
  nanoseconds("__syncwarp", [] { __syncwarp(); });
  nanoseconds("__shfl_xor_sync", [] { __shfl_xor_sync(0xffffffff, 1.0f, 1); });
  nanoseconds("mma_s8", [] {
    int c[4] = {};
    mma_s8(c, {1, 2, 3, 4}, {5, 6});
  });
  nanoseconds("mma_f16", [] {
    float c[4] = {};
    mma_f16(c, {0x3c003c00, 0x3c003c00, 0, 0}, {0x3c003c00, 0});
  });
  nanoseconds("ldmatrix_x4", [] {
    std::uint32_t r[4];
    ldmatrix_x4(r, shared_memory<unsigned char[32][16]>()[threadIdx.x]);
  });
}

static const Cases cases{
    {"gemm: right in every order", is_right_in_every_order},
    {"gemm: a commit left out", is_seen<LeftOut::kCommit>},
    {"gemm: a wait left out", is_seen<LeftOut::kWait>},
    {"gemm: the barrier after the copy left out", is_seen<LeftOut::kBarrierAfterCopy>},
    {"gemm: the barrier before the next copy left out", is_seen<LeftOut::kBarrierBeforeCopy>},
    {"schedule: forward and reverse", orders_are_what_they_say},
    {"schedule: random, by seed", random_orders_are_by_seed},
    {"ptx: every instruction runs", every_instruction_runs},
    {"cost: nanoseconds a collective", costs},
};

}  // namespace cria::cuda::emulation::test
