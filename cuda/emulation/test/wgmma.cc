// wgmma: values, what its waits and fences are for.
#include <cstring>
#include <random>

#include "core/half.h"
#include "test.h"

namespace cria::cuda::emulation::test {

namespace {

constexpr int kRows = 64, kColumns = 128, kDepth = 64;  // two products deep

// B as wgmma reads it: [depth / 16][columns / 8] core matrices of 8 columns by 16 bytes.
struct Tile {
  std::int8_t core[kDepth / 16][kColumns / 8][8][16];
  std::uint64_t full;
};

struct Problem {
  std::int8_t a[kRows][kDepth];
  Tile b;
  int c[kRows][kColumns];
};

Problem* random_problem() {
  auto* problem = device_array<Problem>(1);
  std::minstd_rand random;
  for (auto& row : problem->a) {
    for (auto& value : row) value = static_cast<std::int8_t>(random() >> 8);
  }
  for (auto& value : reinterpret_cast<std::int8_t(&)[kDepth * kColumns]>(problem->b.core)) {
    value = static_cast<std::int8_t>(random() >> 8);
  }
  return problem;
}

bool is_right(const Problem& problem) {
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      int sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += problem.a[i][k] * problem.b.core[k / 16][j / 8][j % 8][k % 16];
      if (problem.c[i][j] != sum) return false;
    }
  }
  return true;
}

// What a kernel leaves out.
enum class Without { kNothing, kProxyFence, kBarrier, kWgmmaFence, kCommit, kWait };

// Lanes write B by ordinary stores, or a bulk copy brings it.
enum class Bring { kStores, kBulk };

template <Without kWithout, Bring kBring = Bring::kStores>
void multiply(Problem* problem) {
  auto& tile = shared_memory<Tile>();
  const int thread = threadIdx.x, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  if (kBring == Bring::kStores) {
    for (int i = thread; i < kDepth * kColumns / 16; i += 128) {
      reinterpret_cast<uint4*>(tile.core)[i] = reinterpret_cast<const uint4*>(problem->b.core)[i];
    }
    if (kWithout != Without::kProxyFence) fence_proxy_async();
  } else if (thread == 0) {
    mbarrier_init(&tile.full, 1);
    fence_mbarrier_init();
    mbarrier_expect_tx(&tile.full, sizeof tile.core);
    bulk_copy(tile.core, problem->b.core, sizeof tile.core, &tile.full);
  }
  if (kWithout != Without::kBarrier) __syncthreads();
  if (kBring == Bring::kBulk) mbarrier_wait(&tile.full, 0);

  int c[64];
  for (int step = 0; step < kDepth / 32; ++step) {
    std::uint32_t a[4];
    for (int r = 0; r < 4; ++r) {
      std::memcpy(&a[r], &problem->a[16 * warp + g + 8 * (r & 1)][32 * step + 4 * t + 16 * (r >> 1)], 4);
    }
    if (kWithout != Without::kWgmmaFence) wgmma_fence();
    wgmma_s8_n128(c, a, smem_descriptor(tile.core[2 * step], sizeof tile.core[0], sizeof tile.core[0][0]), step > 0);
    if (kWithout != Without::kCommit) wgmma_commit();
  }
  if (kWithout != Without::kWait) wgmma_wait<0>();
  for (int i = 0; i < 64; ++i) {
    problem->c[16 * warp + g + 8 * (i >> 1 & 1)][8 * (i / 4) + 2 * t + (i & 1)] = c[i];
  }
  if (kWithout == Without::kWait) wgmma_wait<0>();  // too late
}

template <Without kWithout, Bring kBring = Bring::kStores>
Status run(Problem* problem) {
  return run_kernel(1, 128, sizeof(Tile), [=] { multiply<kWithout, kBring>(problem); });
}

void values() {
  for (const Order order : kOrders) {
    schedule(order);
    Problem* problem = random_problem();
    expect(run<Without::kNothing>(problem) == 0, fault_report());
    expect(is_right(*problem), "a wrong sum");
  }
}

void values_by_bulk_copy() {
  for (const Order order : kOrders) {
    schedule(order);
    Problem* problem = random_problem();
    expect(run<Without::kNothing, Bring::kBulk>(problem) == 0, fault_report());
    expect(is_right(*problem), "a wrong sum");
  }
}

// One product of binary16, whose fragments are int8's of twice the bytes: small integers, so that sums are exact.
void values_of_binary16() {
  Problem* problem = random_problem();
  auto* out = device_array<float[kColumns]>(kRows);
  const auto as_halves = [](std::int8_t* bytes, int count) {
    for (int i = 0; i < count; i += 2) {
      const std::uint16_t half = float_to_half(bytes[i]);
      std::memcpy(bytes + i, &half, 2);
    }
  };
  as_halves(problem->a[0], kRows * kDepth);
  as_halves(problem->b.core[0][0][0], kDepth * kColumns);
  expect_fine(1, 128, sizeof(Tile), [=] {
    auto& tile = shared_memory<Tile>();
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    std::memcpy(tile.core[0][threadIdx.x / 8], problem->b.core[0][threadIdx.x / 8], threadIdx.x % 8 ? 0 : 128);
    std::memcpy(tile.core[1][threadIdx.x / 8], problem->b.core[1][threadIdx.x / 8], threadIdx.x % 8 ? 0 : 128);
    fence_proxy_async();
    __syncthreads();
    std::uint32_t a[4];
    for (int r = 0; r < 4; ++r) {
      std::memcpy(&a[r], &problem->a[16 * warp + g + 8 * (r & 1)][4 * t + 16 * (r >> 1)], 4);
    }
    float c[64];
    for (float& sum : c) sum = 0.5f;
    wgmma_fence();
    wgmma_f16_n128(c, a, smem_descriptor(tile.core, sizeof tile.core[0], sizeof tile.core[0][0]), true);
    wgmma_commit();
    wgmma_wait<0>(c);
    for (int i = 0; i < 64; ++i) out[16 * warp + g + 8 * (i >> 1 & 1)][8 * (i / 4) + 2 * t + (i & 1)] = c[i];
  });
  const auto half_at = [](const std::int8_t* bytes) {
    std::uint16_t half;
    std::memcpy(&half, bytes, 2);
    return half_to_float(half);
  };
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      float sum = 0.5f;
      for (int k = 0; k < 32; k += 2) {
        sum += half_at(&problem->a[i][k]) * half_at(&problem->b.core[k / 16][j / 8][j % 8][k % 16]);
      }
      expect(out[i][j] == sum, "a wrong sum");
    }
  }
}

template <Without kWithout>
void is_wrong_in_every_order() {
  for (const Order order : kOrders) {
    schedule(order);
    Problem* problem = random_problem();
    const Status status = run<kWithout>(problem);
    expect(status != 0 || !is_right(*problem), "not seen");
    forget_error();
  }
}

// Some orders are lucky, but not all.
void without_a_barrier() {
  bool seen = false;
  for (const Order order : kOrders) {
    schedule(order);
    Problem* problem = random_problem();
    seen = seen || run<Without::kBarrier>(problem) != 0 || !is_right(*problem);
  }
  expect(seen, "not seen in any order");
}

void in_one_warp_of_four() {
  Problem* problem = random_problem();
  expect_fault(cudaErrorLaunchFailure, "did not issue the same wgmmas", 1, 128, sizeof(Tile), [=] {
    auto& tile = shared_memory<Tile>();
    std::memset(tile.core[threadIdx.x / 32][threadIdx.x % 16], 1, 128);
    fence_proxy_async();
    __syncthreads();
    if (threadIdx.x >= 32) return;
    int c[64];
    wgmma_fence();
    wgmma_s8_n128(c, {0, 0, 0, 0}, smem_descriptor(tile.core, sizeof tile.core[0], sizeof tile.core[0][0]), false);
    wgmma_commit();
    wgmma_wait<0>();
    problem->c[0][0] = c[0];
  });
}

void setmaxnreg_in_one_warp_of_four() {
  expect_fault(cudaErrorLaunchFailure, "and setmaxnregs", 1, 128, 0, [] {
    if (threadIdx.x < 32) setmaxnreg_dec<40>();
  });
}

void in_flight_at_the_end() {
  expect_fault(cudaErrorLaunchFailure, "a wgmma in flight", 1, 128, sizeof(Tile), [] {
    auto& tile = shared_memory<Tile>();
    int c[64];
    wgmma_fence();
    wgmma_s8_n128(c, {0, 0, 0, 0}, smem_descriptor(tile.core, sizeof tile.core[0], sizeof tile.core[0][0]), false);
    wgmma_commit();
  });
}

void descriptor_past_the_end() {
  expect_fault(cudaErrorIllegalAddress, "wgmma's B", 1, 128, sizeof(Tile), [] {
    auto& tile = shared_memory<Tile>();
    int c[64];
    wgmma_fence();
    wgmma_s8_n128(c, {0, 0, 0, 0}, smem_descriptor(tile.core, sizeof tile.core[0], 4096), false);
    wgmma_commit();
    wgmma_wait<0>();
  });
}

const Cases cases{
    {"wgmma: B by stores", values},
    {"wgmma: B by a bulk copy", values_by_bulk_copy},
    {"wgmma: binary16", values_of_binary16},
    {"wgmma: without fence_proxy_async", is_wrong_in_every_order<Without::kProxyFence>},
    {"wgmma: without a barrier", without_a_barrier},
    {"wgmma: without wgmma_fence", is_wrong_in_every_order<Without::kWgmmaFence>},
    {"wgmma: without wgmma_commit", is_wrong_in_every_order<Without::kCommit>},
    {"wgmma: its wait too late", is_wrong_in_every_order<Without::kWait>},
    {"wgmma: in one warp of four", in_one_warp_of_four},
    {"setmaxnreg: in one warp of four", setmaxnreg_in_one_warp_of_four},
    {"wgmma: in flight at the end", in_flight_at_the_end},
    {"wgmma: a descriptor past the end", descriptor_past_the_end},
};

}  // namespace

}  // namespace cria::cuda::emulation::test
