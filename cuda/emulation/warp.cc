#include "warp.h"

#include <algorithm>
#include <functional>

namespace cria::cuda::emulation {

static void fold_shuffle(const Gathered& lanes) {
  std::uint64_t values[kWarpLanes];
  for (int l = 0; l < kWarpLanes; ++l) values[l] = lanes.holds(l) ? lanes.of<Shuffle>(l).value : ~std::uint64_t{0};
  for (int l = 0; l < kWarpLanes; ++l) {
    if (lanes.holds(l)) lanes.of<Shuffle>(l).value = values[lanes.of<Shuffle>(l).source & (kWarpLanes - 1)];
  }
}
const Collective kShuffle{"a shuffle", false, fold_shuffle};

// Every lane brings a T and takes the T that combines all.
template <class T, class Combine>
static void fold_reduce(const Gathered& lanes) {
  T sum{};
  bool first = true;
  for (int l = 0; l < kWarpLanes; ++l) {
    if (!lanes.holds(l)) continue;
    sum = first ? lanes.of<T>(l) : static_cast<T>(Combine()(sum, lanes.of<T>(l)));
    first = false;
  }
  for (int l = 0; l < kWarpLanes; ++l) {
    if (lanes.holds(l)) lanes.of<T>(l) = sum;
  }
}

namespace {
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return std::max(a, b);
  }
};
struct Min {
  template <class T>
  T operator()(T a, T b) const {
    return std::min(a, b);
  }
};
}  // namespace

template <class T, class Combine>
static T reduce(std::uint32_t mask, T value, const char* name, Site site) {
  static const Collective collective{name, false, fold_reduce<T, Combine>};
  collect(collective, mask, &value, site);
  return value;
}

int reduce_add(std::uint32_t mask, int value, Site site) {
  return static_cast<int>(
      reduce<unsigned, std::plus<unsigned>>(mask, static_cast<unsigned>(value), "__reduce_add_sync", site));
}
int reduce_max(std::uint32_t mask, int value, Site site) {
  return reduce<int, Max>(mask, value, "__reduce_max_sync", site);
}
int reduce_min(std::uint32_t mask, int value, Site site) {
  return reduce<int, Min>(mask, value, "__reduce_min_sync", site);
}
unsigned reduce_max(std::uint32_t mask, unsigned value, Site site) {
  return reduce<unsigned, Max>(mask, value, "__reduce_max_sync", site);
}
unsigned reduce_min(std::uint32_t mask, unsigned value, Site site) {
  return reduce<unsigned, Min>(mask, value, "__reduce_min_sync", site);
}
unsigned reduce_or(std::uint32_t mask, unsigned value, Site site) {
  return reduce<unsigned, std::bit_or<unsigned>>(mask, value, "__reduce_or_sync", site);
}
unsigned reduce_and(std::uint32_t mask, unsigned value, Site site) {
  return reduce<unsigned, std::bit_and<unsigned>>(mask, value, "__reduce_and_sync", site);
}

static void fold_ballot(const Gathered& lanes) {
  std::uint32_t votes = 0;
  for (int l = 0; l < kWarpLanes; ++l) {
    if (lanes.holds(l) && lanes.of<std::uint32_t>(l)) votes |= 1u << l;
  }
  for (int l = 0; l < kWarpLanes; ++l) {
    if (lanes.holds(l)) lanes.of<std::uint32_t>(l) = votes;
  }
}

std::uint32_t ballot(std::uint32_t mask, bool predicate, Site site) {
  static const Collective kBallot{"a vote", false, fold_ballot};
  std::uint32_t vote = predicate;
  collect(kBallot, mask, &vote, site);
  return vote;
}

void sync_warp(std::uint32_t mask, Site site) {
  static const Collective kSyncWarp{"__syncwarp", false, [](const Gathered&) {}};
  collect(kSyncWarp, mask, nullptr, site);
}

}  // namespace cria::cuda::emulation
