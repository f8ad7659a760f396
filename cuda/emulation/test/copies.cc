// cp.async, mbarriers and bulk copies: what lands when, and what is in flight at the end.
#include <cmath>

#include "test.h"

namespace cria::cuda::emulation::test {

namespace {
struct Stage {
  float tile[128];
  std::uint64_t full, empty;
};
}  // namespace

// 32 lanes bring 16 bytes each, 0, 1, 2, ...
static float* source() {
  auto* values = device_array<float>(1024);
  for (int i = 0; i < 1024; ++i) values[i] = static_cast<float>(i);
  return values;
}

static void lands_at_the_wait() {
  const float* from = source();
  float* seen = device_array<float>(4);
  expect_fine(1, 32, sizeof(Stage), [=] {
    auto& stage = shared_memory<Stage>();
    const int i = 4 * threadIdx.x;
    cp_async_16(&stage.tile[i], &from[i]);
    cp_async_commit();
    if (i == 4) seen[0] = stage.tile[4];
    cp_async_wait<1>();
    if (i == 4) seen[1] = stage.tile[4];
    cp_async_wait<0>();
    if (i == 4) seen[2] = stage.tile[4];
    __syncthreads();
    if (i == 4) seen[3] = stage.tile[127];
  });
  expect(std::isnan(seen[0]), "landed at its issue");
  expect(std::isnan(seen[1]), "landed at a wait that leaves its group out");
  expect(seen[2] == 4 && seen[3] == 127, "did not land at its wait");
}

static void waits_for_the_oldest_groups() {
  const float* from = source();
  float* seen = device_array<float>(3);
  expect_fine(1, 1, sizeof(Stage), [=] {
    auto& stage = shared_memory<Stage>();
    for (int group = 0; group < 3; ++group) {
      cp_async_16(&stage.tile[4 * group], &from[4 * group]);
      cp_async_commit();
    }
    cp_async_wait<1>();
    for (int group = 0; group < 3; ++group) seen[group] = stage.tile[4 * group];
    cp_async_wait<0>();
  });
  expect(seen[0] == 0 && seen[1] == 4, "an older group did not land");
  expect(std::isnan(seen[2]), "the newest group landed");
}

static void wait_leaves_an_open_group() {
  const float* from = source();
  expect_fault(cudaErrorLaunchFailure, "in flight", 1, 32, sizeof(Stage), [=] {
    cp_async_16(&shared_memory<Stage>().tile[4 * threadIdx.x], from);
    cp_async_wait<0>();
  });
}

static void zeros_where_not_valid() {
  const float* from = source();
  float* seen = device_array<float>(32);
  expect_fine(1, 32, sizeof(Stage), [=] {
    auto& stage = shared_memory<Stage>();
    const int i = 4 * threadIdx.x;
    cp_async_16(&stage.tile[i], from + i, threadIdx.x % 2 == 0);
    cp_async_commit();
    cp_async_wait<0>();
    seen[threadIdx.x] = stage.tile[i + 1];
  });
  for (int lane = 0; lane < 32; ++lane) expect(seen[lane] == (lane % 2 ? 0 : 4 * lane + 1), "a wrong value");
}

static void destination_written_in_flight() {
  const float* from = source();
  expect_fault(cudaErrorLaunchFailure, "written in flight", 1, 32, sizeof(Stage), [=] {
    auto& stage = shared_memory<Stage>();
    cp_async_16(&stage.tile[4 * threadIdx.x], from);
    cp_async_commit();
    stage.tile[4 * threadIdx.x + 3] = 1;
    cp_async_wait<0>();
  });
}

// A block that fills `tile` by one bulk copy.
template <class Middle>
static auto bulk(const float* from, int bytes, Middle middle) {
  return [=] {
    auto& stage = shared_memory<Stage>();
    if (threadIdx.x == 0) {
      mbarrier_init(&stage.full, 1);
      fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      mbarrier_expect_tx(&stage.full, bytes);
      bulk_copy(stage.tile, from, 512, &stage.full);
    }
    __syncthreads();
    middle(stage);
  };
}

static void bulk_lands_at_the_wait() {
  const float* from = source();
  float* seen = device_array<float>(2);
  expect_fine(1, 64, sizeof(Stage), bulk(from, 512, [=](Stage& stage) {
                if (threadIdx.x == 0) seen[0] = stage.tile[100];
                __syncthreads();
                mbarrier_wait(&stage.full, 0);
                if (threadIdx.x == 63) seen[1] = stage.tile[100];
              }));
  expect(std::isnan(seen[0]), "read before the wait, but not NaN");
  expect(seen[1] == 100, "did not land at the wait");
}

// The others wait, but an arrival is still missing.
static void bulk_lands_no_sooner_than_its_phase_can_end() {
  const float* from = source();
  float* seen = device_array<float>(2);
  for (const Order order : kOrders) {
    schedule(order);
    expect_fine(1, 96, sizeof(Stage), [=] {
      auto& stage = shared_memory<Stage>();
      if (threadIdx.x == 0) {
        mbarrier_init(&stage.full, 2);
        fence_mbarrier_init();
        mbarrier_expect_tx(&stage.full, 512);
        bulk_copy(stage.tile, from, 512, &stage.full);
      }
      __syncthreads();
      if (threadIdx.x == 32) {
        seen[0] = stage.tile[100];
        mbarrier_arrive(&stage.full);
      }
      mbarrier_wait(&stage.full, 0);
      if (threadIdx.x == 32) seen[1] = stage.tile[100];
    });
    expect(std::isnan(seen[0]), "landed while an arrival was missing");
    expect(seen[1] == 100, "did not land at the wait");
  }
}

static void bulk_never_waited_for() {
  const float* from = source();
  expect_fault(cudaErrorLaunchFailure, "1 bulk copies in flight", 1, 64, sizeof(Stage), bulk(from, 512, [](Stage&) {}));
}

static void bulk_of_other_bytes_than_expected() {
  const float* from = source();
  expect_fault(cudaErrorLaunchTimeout, "deadlock", 1, 64, sizeof(Stage),
               bulk(from, 1024, [](Stage& stage) { mbarrier_wait(&stage.full, 0); }));
}

static void bulk_to_an_unpublished_mbarrier() {
  const float* from = source();
  expect_fault(cudaErrorLaunchFailure, "fence_mbarrier_init", 1, 32, sizeof(Stage), [=] {
    auto& stage = shared_memory<Stage>();
    if (threadIdx.x == 0) {
      mbarrier_init(&stage.full, 1);
      mbarrier_expect_tx(&stage.full, 512);
      bulk_copy(stage.tile, from, 512, &stage.full);
    }
  });
}

static void mbarrier_without_a_barrier_after_its_init() {
  // In some order a lane waits before the mbarrier is there.
  schedule(Order::kReverse);
  const Status status = run_kernel(1, 64, sizeof(Stage), [] {
    auto& stage = shared_memory<Stage>();
    if (threadIdx.x == 0) {
      mbarrier_init(&stage.full, 64);
      fence_mbarrier_init();
    }
    mbarrier_arrive(&stage.full);
    mbarrier_wait(&stage.full, 0);
  });
  expect(status == cudaErrorLaunchFailure, "not seen in reverse order");
  expect(fault_report().find("not initialised") != std::string::npos, fault_report());
}

static void too_many_arrivals() {
  expect_fault(cudaErrorLaunchFailure, "more arrivals", 1, 32, sizeof(Stage), [] {
    auto& stage = shared_memory<Stage>();
    if (threadIdx.x != 0) return;
    mbarrier_init(&stage.full, 1);
    mbarrier_expect_tx(&stage.full, 16);
    mbarrier_arrive(&stage.full);
  });
}

// One warp brings tiles, one adds them up: the ring that every Hopper kernel is built on, here of one stage.
static void ring_of_a_producer_and_a_consumer() {
  const float* from = source();
  float* sums = device_array<float>(8);
  for (const Order order : kOrders) {
    schedule(order);
    expect_fine(1, 64, sizeof(Stage), [=] {
      auto& stage = shared_memory<Stage>();
      if (threadIdx.x == 0) {
        mbarrier_init(&stage.full, 1);
        mbarrier_init(&stage.empty, 32);
        fence_mbarrier_init();
      }
      __syncthreads();
      for (int i = 0; i < 8; ++i) {
        if (threadIdx.x == 0) {
          if (i > 0) mbarrier_wait(&stage.empty, (i - 1) % 2);
          mbarrier_expect_tx(&stage.full, 512);
          bulk_copy(stage.tile, from + 128 * i, 512, &stage.full);
        }
        if (threadIdx.x >= 32) {
          mbarrier_wait(&stage.full, i % 2);
          const float* mine = &stage.tile[4 * (threadIdx.x - 32)];
          float sum = mine[0] + mine[1] + mine[2] + mine[3];
          for (int bits = 16; bits > 0; bits /= 2) sum += __shfl_xor_sync(0xffffffff, sum, bits);
          if (threadIdx.x == 32) sums[i] = sum;
          mbarrier_arrive(&stage.empty);
        }
      }
    });
    for (int i = 0; i < 8; ++i) expect(sums[i] == 128 * 128 * i + 127 * 64, "a wrong sum");
  }
}

static void bad_addresses() {
  const float* from = source();
  static float host[8];
  expect_fault(cudaErrorMisalignedAddress, "not 16-byte aligned", 1, 32, sizeof(Stage),
               [=] { cp_async_16(shared_memory<Stage>().tile, from + 1); });
  expect_fault(cudaErrorMisalignedAddress, "not 16-byte aligned", 1, 32, sizeof(Stage),
               [=] { cp_async_16(shared_memory<Stage>().tile + 2, from); });
  const float* not_the_devices = host;
  expect_fault(cudaErrorIllegalAddress, "not in one allocation", 1, 32, sizeof(Stage),
               [=] { cp_async_16(shared_memory<Stage>().tile, not_the_devices); });
  expect_fault(cudaErrorIllegalAddress, "not in shared memory", 1, 32, sizeof(Stage), [] {
    std::uint32_t r[4];
    ldmatrix_x4(r, &shared_memory<Stage>() + 1);
  });
}

static const Cases cases{
    {"cp.async: lands at the wait that demands it", lands_at_the_wait},
    {"cp.async: a wait is for the oldest groups", waits_for_the_oldest_groups},
    {"cp.async: a wait leaves an open group in flight", wait_leaves_an_open_group},
    {"cp.async: zeros where not valid", zeros_where_not_valid},
    {"cp.async: the destination written in flight", destination_written_in_flight},
    {"bulk copy: lands at the wait that demands it", bulk_lands_at_the_wait},
    {"bulk copy: lands no sooner than its phase can end", bulk_lands_no_sooner_than_its_phase_can_end},
    {"bulk copy: never waited for", bulk_never_waited_for},
    {"bulk copy: other bytes than expected", bulk_of_other_bytes_than_expected},
    {"bulk copy: to an unpublished mbarrier", bulk_to_an_unpublished_mbarrier},
    {"mbarrier: used before its init", mbarrier_without_a_barrier_after_its_init},
    {"mbarrier: too many arrivals", too_many_arrivals},
    {"mbarrier: a ring of a producer and a consumer", ring_of_a_producer_and_a_consumer},
    {"copies: bad addresses", bad_addresses},
};

}  // namespace cria::cuda::emulation::test
