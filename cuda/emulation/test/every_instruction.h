// Two kernels that call every function of ptx.cuh between them, one after the other.
#pragma once

#include "stream.h"

namespace cria::cuda::emulation::test {

struct EveryInstruction {
  const void* global;  // 8192 bytes
  int* out;            // 128
};

Status every_instruction(const EveryInstruction& op, Stream stream);

}  // namespace cria::cuda::emulation::test
