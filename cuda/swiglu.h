// SwiGLU: csrc/cpu/swiglu.h's formula, and its bits.
#pragma once

#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct SwiGlu {
  const float* gate_up;  // [rows][2 dim]: gate, then up
  float* out;            // [rows][dim]
  Rows rows;
  int dim;
};

Status swiglu(const SwiGlu&, Stream);

}  // namespace cria::cuda
