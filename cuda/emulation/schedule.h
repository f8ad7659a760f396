// The order in which blocks of a grid, warps of a block and lanes of a warp take turns. A GPU promises none, so a
// kernel is right only if it is right in all of them.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "vectors.h"

namespace cria::cuda::emulation {

enum class Order { kForward, kReverse, kRandom };

struct Schedule {
  Order order = Order::kForward;
  std::uint32_t seed = 1;
};

/// For the launches from now on, of every thread. At first CRIA_EMULATION_ORDER says: forward, reverse, random or
/// random:SEED; without it, forward.
void schedule(Order order, std::uint32_t seed = 1);
Schedule current_schedule();

/// Fills turn -> index for `count` things.
void order_of(std::uint8_t* order, int count, std::minstd_rand& random);
std::vector<std::uint64_t> blocks_of(dim3 grid, std::minstd_rand& random);

}  // namespace cria::cuda::emulation
