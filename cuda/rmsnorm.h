// RMSNorm (Zhang and Sennrich 2019, eq. 4), fused with what stands before and behind it in a block of LLaMA:
//
//     y[r]      = x[r] * weight / sqrt(mean(x[r]^2) + eps)
//     quants[r] = y[r], quantised as csrc/cpu/quantize.h has it
//
// The sum of squares is taken in an order that depends on dim alone. It is not the CPU's: results agree to 2e-6.
#pragma once

#include "quant_rows.h"
#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct RmsNorm {
  const float* x;       // [rows][dim]
  const float* weight;  // [dim]
  float* out;           // [rows][dim], may be x; null where only the quants are wanted
  QuantRows quants;     // quants.quants is null where they are not wanted
  Rows rows;
  int dim;
  float eps;
};

Status rmsnorm(const RmsNorm&, Stream);

}  // namespace cria::cuda
