// Activation quantisation: csrc/cpu/quantize.h's formula, and its bits, in quant_rows.h's layout.
#pragma once

#include "quant_rows.h"
#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct Quantize {
  const float* x;  // [rows][dim]
  QuantRows out;
  Rows rows;
  int dim;
};

Status quantize(const Quantize&, Stream);

}  // namespace cria::cuda
