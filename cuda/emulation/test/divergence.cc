// What threads of a block must do together, and do not.
#include "test.h"

namespace cria::cuda::emulation::test {

constexpr unsigned kAll = 0xffffffff;

static void shuffle_without_some_lanes() {
  expect_fault(cudaErrorLaunchFailure, "waits for it", 1, 32, 0, [] {
    if (threadIdx.x != 7) __shfl_sync(kAll, 1.0f, 0);
  });
}

static void shuffle_beside_another_collective() {
  expect_fault(cudaErrorLaunchFailure, "divergence", 1, 32, 0, [] {
    if (threadIdx.x < 16) {
      __shfl_sync(kAll, 1.0f, 0);
    } else {
      __ballot_sync(kAll, 1);
    }
  });
}

static void masks_that_differ() {
  expect_fault(cudaErrorLaunchFailure, "divergence", 1, 32, 0,
               [] { __shfl_sync(threadIdx.x < 16 ? 0xffffu : kAll, 1.0f, 0); });
}

static void mask_without_its_lane() {
  expect_fault(cudaErrorLaunchFailure, "leaves its own lane out", 1, 32, 0, [] { __shfl_sync(0xffu, 1.0f, 0); });
}

static void lanes_that_a_partial_warp_lacks() {
  expect_fault(cudaErrorLaunchFailure, "have returned", 1, 40, 0, [] { __shfl_sync(kAll, 1.0f, 0); });
}

static void aligned_instruction_in_two_branches() {
  expect_fault(cudaErrorLaunchFailure, ".aligned", 1, 32, 0, [] {
    int c[4] = {};
    if (threadIdx.x < 16) {
      mma_s8(c, {0, 0, 0, 0}, {0, 0});
    } else {
      mma_s8(c, {1, 1, 1, 1}, {1, 1});
    }
  });
}

static void halves_of_a_warp_apart() {
  int* out = device_array<int>(32);
  for (const Order order : kOrders) {
    schedule(order);
    expect_fine(1, 32, 0, [=] {
      const int lane = threadIdx.x;
      if (lane < 16) {
        out[lane] = __reduce_add_sync(0xffffu, lane);
      } else {
        out[lane] = __shfl_xor_sync(0xffff0000u, lane, 1) + __reduce_max_sync(0xffff0000u, lane);
      }
    });
    for (int lane = 0; lane < 32; ++lane) expect(out[lane] == (lane < 16 ? 120 : (lane ^ 1) + 31), "a wrong value");
  }
}

static void barrier_not_reached_by_a_lane() {
  expect_fault(cudaErrorLaunchFailure, "__syncthreads", 1, 64, 0, [] {
    if (threadIdx.x != 63) __syncthreads();
  });
}

static void barrier_not_reached_by_a_warp() {
  expect_fault(cudaErrorLaunchFailure, "__syncthreads is not reached by all", 1, 64, 0, [] {
    if (threadIdx.x < 32) __syncthreads();
  });
}

static void barrier_while_a_shuffle_waits() {
  expect_fault(cudaErrorLaunchFailure, "divergence", 1, 32, 0, [] {
    if (threadIdx.x < 16) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  });
}

static void barrier_in_two_branches_of_a_warp() {
  expect_fault(cudaErrorLaunchFailure, "another __syncthreads", 1, 32, 0, [] {
    if (threadIdx.x < 16) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
}

static void barrier_from_two_places_by_warps() {
  expect_fine(1, 64, 0, [] {
    if (threadIdx.x < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  });
}

static void deadlock() {
  expect_fault(cudaErrorLaunchTimeout, "warp 1 lanes 0-31 wait at mbarrier_wait", 1, 64, 64, [] {
    auto& mbarrier = shared_memory<std::uint64_t>();
    if (threadIdx.x == 0) {
      mbarrier_init(&mbarrier, 1);
      fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x >= 32) mbarrier_wait(&mbarrier, 0);
    __syncthreads();
  });
}

static const Cases cases{
    {"divergence: a shuffle without some lanes", shuffle_without_some_lanes},
    {"divergence: a shuffle beside another collective", shuffle_beside_another_collective},
    {"divergence: masks that differ", masks_that_differ},
    {"divergence: a mask without its lane", mask_without_its_lane},
    {"divergence: lanes that a partial warp lacks", lanes_that_a_partial_warp_lacks},
    {"divergence: an .aligned instruction in two branches", aligned_instruction_in_two_branches},
    {"divergence: halves of a warp may go apart", halves_of_a_warp_apart},
    {"barrier: not reached by a lane", barrier_not_reached_by_a_lane},
    {"barrier: not reached by a warp", barrier_not_reached_by_a_warp},
    {"barrier: while a shuffle waits", barrier_while_a_shuffle_waits},
    {"barrier: in two branches of a warp", barrier_in_two_branches_of_a_warp},
    {"barrier: warps may come from two places", barrier_from_two_places_by_warps},
    {"barrier: a deadlock is told, warp by warp", deadlock},
};

}  // namespace cria::cuda::emulation::test
