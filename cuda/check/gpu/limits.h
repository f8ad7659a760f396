// What a GPU does at most, by kernels that do nothing else: the denominators of the timings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../../stream.h"

namespace cria::cuda::check {

// Reads `bytes`, a multiple of 16.
Status read_memory(const void* memory, std::size_t bytes, std::uint32_t* sink, int multiprocessors, Stream stream);

// Products of the tensor cores whose operands stay where they are: wgmma, which only compute capability 9.0 has, or
// mma.sync. The operands are random, for zeros take less power, and so leave higher clocks, than real ones do.
enum class Multiplier { kMmaSync, kWgmma };
enum class Operands { kBf16, kInt8 };

Status multiply(Multiplier multiplier, Operands operands, std::uint32_t* sink, int multiprocessors, Stream stream);

// The versions of CUDA that the plugin was built with and that the driver speaks.
std::string cuda_versions();

// Operations of one such launch, a multiply-add being two.
double multiplied(Multiplier multiplier, Operands operands, int multiprocessors);

}  // namespace cria::cuda::check
