// A packed matrix on the device. csrc/cuda/pack.h draws the layouts and makes them, without loss.
#pragma once

#include <cstdint>

#include "../csrc/cria.h"

namespace cria::cuda {

struct Weights {
  cria_type type;
  const std::uint8_t* quants;   // fragment tiles; of f32 the rows themselves
  const std::uint16_t* scales;  // of quantised types
  int rows, cols;
};

}  // namespace cria::cuda
