// Keys and values moved from slots to slots of the KV cache, keys turned on the way: csrc/cpu/kv_move.h's formula, and
// its bits. Slots are taken one after another, in the order given.
#pragma once

#include "kv.h"
#include "stream.h"

namespace cria::cuda {

struct KvMove {
  KvLayer cache;            // of layer 0
  std::int64_t layer_step;  // bytes from layer to layer
  int layers;
  const std::int32_t* from;  // [count] slots: block * 16 + place
  const std::int32_t* to;    // [count]
  int count;
  int rotary_dim;  // 0: keys are copied
  bool halves;
  const float* cosine;  // [rotary_dim / 2] of the shift
  const float* sine;
};

Status kv_move(const KvMove&, Stream);

}  // namespace cria::cuda
