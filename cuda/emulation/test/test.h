// A case is a function that throws where something is not as it should be. Kernels are lambdas: their captures are the
// operands.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda.cuh"
#include "emulation/schedule.h"
#include "launch.cuh"
#include "ptx.cuh"

namespace cria::cuda::emulation::test {

constexpr Order kOrders[] = {Order::kForward, Order::kReverse, Order::kRandom};

struct Case {
  const char* name;
  void (*run)();
};

/// A file's cases join the list when the program starts.
struct Cases {
  Cases(std::initializer_list<Case> cases);
};
const std::vector<Case>& all_cases();

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

inline void expect(bool holds, const std::string& otherwise) {
  if (!holds) throw Failed(otherwise);
}

template <class Body>
__global__ void kernel_of(Body body) {
  body();
}

template <class Body>
Status enqueue_kernel(dim3 grid, int threads, std::size_t shared, Body body, Stream stream = nullptr) {
  return launch(kernel_of<Body>, grid, threads, shared, stream, body);
}

/// Runs a kernel to its end; what it returns is the context's error, 0 without one.
template <class Body>
Status run_kernel(dim3 grid, int threads, std::size_t shared, Body body) {
  const Status status = enqueue_kernel(grid, threads, shared, body);
  return status ? status : cudaDeviceSynchronize();
}

/// Runs a kernel that must end without a fault.
template <class Body>
void expect_fine(dim3 grid, int threads, std::size_t shared, Body body) {
  const Status status = run_kernel(grid, threads, shared, body);
  expect(status == 0, fault_report());
}

/// Runs a kernel that must fail with this error and a report that has `text`, in every order.
template <class Body>
void expect_fault(cudaError_t error, const std::string& text, dim3 grid, int threads, std::size_t shared, Body body) {
  for (const Order order : kOrders) {
    schedule(order);
    const Status status = run_kernel(grid, threads, shared, body);
    expect(status != 0, "the fault was not seen");
    expect(status == error,
           std::string("another error: ") + cudaGetErrorName(static_cast<cudaError_t>(status)) + ", " + fault_report());
    expect(fault_report().find(text) != std::string::npos, "another report: " + fault_report());
    forget_error();
  }
  schedule(Order::kForward);
}

/// Memory of the device that the case can also see. It lives to the case's end.
template <class T>
T* device_array(std::size_t count) {
  T* memory;
  expect(cudaMalloc(&memory, count * sizeof(T)) == cudaSuccess, "cudaMalloc failed");
  return memory;
}

}  // namespace cria::cuda::emulation::test
