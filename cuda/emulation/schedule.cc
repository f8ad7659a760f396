#include "schedule.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <numeric>

namespace cria::cuda::emulation {

static Schedule from_environment() {
  const char* text = std::getenv("CRIA_EMULATION_ORDER");
  if (!text) return {};
  if (std::strcmp(text, "reverse") == 0) return {Order::kReverse, 1};
  if (std::strncmp(text, "random", 6) != 0) return {};
  return {Order::kRandom, text[6] == ':' ? static_cast<std::uint32_t>(std::strtoul(text + 7, nullptr, 10)) : 1};
}

static std::atomic<Schedule>& setting() {
  static std::atomic<Schedule> schedule{from_environment()};
  return schedule;
}

void schedule(Order order, std::uint32_t seed) { setting() = Schedule{order, seed}; }
Schedule current_schedule() { return setting(); }

template <class Index>
static void arrange(Index* order, std::size_t count, std::minstd_rand& random) {
  std::iota(order, order + count, Index{0});
  const Order how = current_schedule().order;
  if (how == Order::kReverse) std::reverse(order, order + count);
  if (how == Order::kRandom) std::shuffle(order, order + count, random);
}

void order_of(std::uint8_t* order, int count, std::minstd_rand& random) { arrange(order, count, random); }

std::vector<std::uint64_t> blocks_of(dim3 grid, std::minstd_rand& random) {
  std::vector<std::uint64_t> order(std::uint64_t{grid.x} * grid.y * grid.z);
  arrange(order.data(), order.size(), random);
  return order;
}

}  // namespace cria::cuda::emulation
