// Poison, ends of memory, alignment, and what a fault leaves behind.
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include "test.h"

namespace cria::cuda::emulation::test {

static void device_memory_starts_poisoned() {
  const float* memory = device_array<float>(100);
  float* out = device_array<float>(1);
  expect_fine(1, 1, 0, [=] { out[0] = memory[99]; });
  expect(std::isnan(out[0]), "not NaN");
}

// Shared memory is poisoned for each block, not once a grid.
static void shared_memory_starts_poisoned() {
  float* out = device_array<float>(4);
  expect_fine(4, 32, 128, [=] {
    auto& shared = shared_memory<float[32]>();
    if (threadIdx.x == 0) out[blockIdx.x] = shared[5];
    __syncthreads();
    shared[threadIdx.x] = 1;
  });
  for (int i = 0; i < 4; ++i) expect(std::isnan(out[i]), "not NaN");
}

static void past_the_end_of_device_memory() {
  float* memory = device_array<float>(64);
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 32, 0, [=] { memory[64 + threadIdx.x] = 1; });
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 32, 0, [=] {
    if (memory[64 + threadIdx.x] == 1) memory[0] = 1;
  });
}

static void written_between_the_end_and_the_guard() {
  char* memory = device_array<char>(100);
  expect_fine(1, 1, 0, [=] { memory[100] = 1; });
  expect(cudaFree(memory) == cudaErrorIllegalAddress, "not seen when freed");
}

static void past_the_end_of_shared_memory() {
  // 32 floats are one row of banks: the guard page follows at once.
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 64, 128,
               [] { (&shared_memory<float>())[threadIdx.x] = 1; });
  expect_fault(cudaErrorIllegalAddress, "after the end of shared memory", 1, 32, 100,
               [] { (&shared_memory<float>())[threadIdx.x] = 1; });
}

static void layout_larger_than_the_launch_gave() {
  expect_fault(cudaErrorIllegalAddress, "its launch gave 64", 1, 1, 64, [] { shared_memory<float[32]>()[0] = 1; });
}

static void freed_memory() {
  float* memory = device_array<float>(64);
  cudaFree(memory);
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 1, 0, [=] { memory[0] = 1; });
}

static void null_pointer() {
  float* memory = nullptr;
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 1, 0, [=] { memory[1] = 1; });
}

static void misaligned_vector() {
  float* memory = device_array<float>(64);
  expect_fault(cudaErrorMisalignedAddress, "misaligned", 1, 1, 0,
               [=] { *reinterpret_cast<float4*>(memory + 1) = make_float4(1, 2, 3, 4); });
}

static void index_past_an_array() {
  int* index = device_array<int>(1);
  index[0] = 8;
  expect_fault(cudaErrorMisalignedAddress, "past its array", 1, 1, 128,
               [=] { shared_memory<float[4][8]>()[1][*index] = 1; });
}

static void shift_past_a_word() {
  int* by = device_array<int>(1);
  by[0] = 32;
  expect_fault(cudaErrorMisalignedAddress, "out of range", 1, 1, 0, [=] { *by = 1 << *by; });
}

// Deeper than any stack.
static int recurse(int depth) {
  volatile char frame[1024];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

static void stack_overflow() {
  int* depth = device_array<int>(1);
  *depth = 1 << 20;
  expect_fault(cudaErrorIllegalAddress, "illegal address", 1, 1, 0, [=] { *depth = recurse(*depth); });
}

static void every_call_after_a_fault_tells_of_it() {
  float* memory = device_array<float>(64);
  float host = 0;
  float* more;
  expect(enqueue_kernel(1, 1, 0, [=] { memory[64] = 1; }) == cudaSuccess, "the launch itself fails");
  expect(cudaDeviceSynchronize() == cudaErrorIllegalAddress, "cudaDeviceSynchronize");
  expect(cudaGetLastError() == cudaErrorIllegalAddress, "cudaGetLastError");
  expect(cudaGetLastError() == cudaErrorIllegalAddress, "the second cudaGetLastError: the error must stick");
  expect(cudaMemcpy(&host, memory, 4, cudaMemcpyDeviceToHost) == cudaErrorIllegalAddress, "cudaMemcpy");
  expect(cudaMalloc(&more, 4) == cudaErrorIllegalAddress, "cudaMalloc");
  expect(run_kernel(1, 1, 0, [] {}) == cudaErrorIllegalAddress, "a launch");
  cudaDeviceReset();
  expect_fine(1, 1, 0, [] {});
}

// A host with a handler of its own (Node.js has) keeps it: for its own faults, and after kernels have run.
static volatile int handled = 0;
static void* page;
static void make_page_readable(int, siginfo_t* info, void*) {
  if (info->si_addr == page) handled = handled + 1;
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void the_hosts_handlers_stay() {
  handled = 0;
  page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction action {
  }, before, after;
  action.sa_sigaction = make_page_readable;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &before);
  float* memory = device_array<float>(64);
  const Status status = run_kernel(1, 1, 0, [=] { memory[64] = 1; });
  *static_cast<volatile char*>(page) = 1;
  sigaction(SIGSEGV, &before, &after);
  munmap(page, 4096);
  expect(status == cudaErrorIllegalAddress, "the kernel's fault was not seen");
  expect(handled == 1, "the host's handler was called " + std::to_string(handled) + " times");
  expect(after.sa_sigaction == make_page_readable, "the host's handler was not restored");
}

// While a kernel runs, another thread of the host faults: that is the host's affair.
static void another_threads_fault_during_a_kernel() {
  handled = 0;
  page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction action {
  }, before;
  action.sa_sigaction = make_page_readable;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, &before);
  static std::atomic<bool> running, touched;
  running = touched = false;
  std::thread other([] {
    while (!running) std::this_thread::yield();
    *static_cast<volatile char*>(page) = 1;
    touched = true;
  });
  const Status status = run_kernel(1, 1, 0, [] {
    running = true;
    while (!touched) std::this_thread::yield();
  });
  other.join();
  sigaction(SIGSEGV, &before, nullptr);
  munmap(page, 4096);
  expect(status == 0, fault_report());
  expect(handled == 1, "the host's handler was called " + std::to_string(handled) + " times");
}

static void out_of_memory() {
  void* memory = &memory;
  expect(cudaMalloc(&memory, std::size_t{1} << 40) == cudaErrorMemoryAllocation && !memory, "a TiB was given");
  expect(cudaMalloc(&memory, SIZE_MAX) == cudaErrorMemoryAllocation, "all memory was given");
  expect(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess, "the error stuck");
}

static const Cases cases{
    {"memory: the device's starts poisoned", device_memory_starts_poisoned},
    {"memory: a block's starts poisoned", shared_memory_starts_poisoned},
    {"memory: past the device's end", past_the_end_of_device_memory},
    {"memory: written between the end and the guard", written_between_the_end_and_the_guard},
    {"memory: past the block's end", past_the_end_of_shared_memory},
    {"memory: a layout larger than the launch gave", layout_larger_than_the_launch_gave},
    {"memory: freed", freed_memory},
    {"memory: null", null_pointer},
    {"memory: a misaligned vector", misaligned_vector},
    {"memory: an index past an array", index_past_an_array},
    {"memory: a shift past a word", shift_past_a_word},
    {"memory: a lane's stack overflows", stack_overflow},
    {"fault: every later call tells of it", every_call_after_a_fault_tells_of_it},
    {"fault: the host's handlers stay", the_hosts_handlers_stay},
    {"fault: another thread's during a kernel", another_threads_fault_during_a_kernel},
    {"memory: more than there is", out_of_memory},
};

}  // namespace cria::cuda::emulation::test
