// The rows of x that the batch wants outputs of: out[i] = x[chosen[i]].
#pragma once

#include "rows.h"
#include "stream.h"

namespace cria::cuda {

struct Select {
  const float* x;              // [tokens][dim]
  const std::int32_t* chosen;  // [rows]
  float* out;                  // [rows][dim]
  Rows rows;
  int dim;
};

Status select(const Select&, Stream);

}  // namespace cria::cuda
