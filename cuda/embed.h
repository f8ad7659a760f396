// Embedding: csrc/cpu/embed.h's formula, and its bits.
//
//     out[t] = table[tokens[t]],   a quantised weight being float(scale) * float(q)
#pragma once

#include "rows.h"
#include "stream.h"
#include "weights.h"

namespace cria::cuda {

struct Embed {
  Weights table;               // any type
  const std::int32_t* tokens;  // each in [0, table.rows)
  Rows rows;
  float* out;  // [rows][table.cols]
};

Status embed(const Embed&, Stream);

}  // namespace cria::cuda
