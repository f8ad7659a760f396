#pragma once

namespace cria::cuda::emulation {

/// What the emulated device says that it is, opened or not: the core describes it without asking it.
constexpr char kDeviceName[] = "CUDA, emulated on the CPU";

}  // namespace cria::cuda::emulation
