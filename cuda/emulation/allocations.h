// What cudaMalloc and cudaMallocHost gave, so that an address can be told to be the device's.
#pragma once

#include <cstddef>

namespace cria::cuda::emulation {

constexpr std::size_t kDeviceMemory = std::size_t{4} << 30;

enum class Home { kDevice, kPinned, kPageable };

/// Where [memory, memory + bytes) lies as a whole. What is not one allocation's is the host's own, pageable.
Home home_of(const void* memory, std::size_t bytes);

void forget_allocations();

}  // namespace cria::cuda::emulation
