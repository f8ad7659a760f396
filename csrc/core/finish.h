// What becomes of a product's sums.
#pragma once

namespace cria {

enum class Finish {
  kStore,   // out[t][r] = sum[t][r]
  kAdd,     // out[t][r] = out[t][r] + sum[t][r]
  kSwiGlu,  // out[t][r] = silu(sum[t][r]) sum[t][r + rows / 2], gate above up
};

}  // namespace cria
