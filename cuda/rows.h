// How many rows an op works on.
//
// A program is captured once for every batch of up to `capacity` rows and replayed for batches of all sizes below, so
// the grid follows the capacity and the number of rows is read from device memory: blocks without a row end at once.
// Rows from the count on are neither read nor written.
#pragma once

#include <cstdint>

namespace cria::cuda {

struct Rows {
  int capacity;
  const std::int32_t* count;  // on the device; at most capacity
};

}  // namespace cria::cuda
