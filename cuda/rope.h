// Rotary position embedding fused with the write of k and v to the cache: csrc/cpu/rope.h's formula, and its bits where
// the angles are the same. They are: rope_angles computes them in float64 and rounds once, as the CPU does.
#pragma once

#include "kv.h"
#include "rows.h"
#include "stream.h"

namespace cria::cuda {

// magnitude times cosine and sine [tokens][rotary_dim / 2] of positions * frequency[i], once for all layers.
struct RopeAngles {
  DeviceBatch batch;
  Rows rows;
  const double* frequencies;  // [rotary_dim / 2], from the host (csrc/core/rope.h)
  int pairs;
  double magnitude;
  float* cosine;
  float* sine;
};

struct Rope {
  float* qkv;  // [rows][(heads + 2 kv_heads) head_dim]; q and k are turned in place
  const float* cosine;
  const float* sine;
  DeviceBatch batch;
  Rows rows;
  KvLayer cache;
  int heads, rotary_dim;
  bool halves;
};

Status rope_angles(const RopeAngles&, Stream);
Status rope(const Rope&, Stream);

}  // namespace cria::cuda
