// The residual connection, out = x + y: the CPU's bits.
#pragma once

#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct Add {
  const float* x;  // [rows][dim]
  const float* y;  // [rows][dim]
  float* out;      // [rows][dim]; may be x or y
  Rows rows;
  int dim;
};

Status add(const Add&, Stream);

}  // namespace cria::cuda
