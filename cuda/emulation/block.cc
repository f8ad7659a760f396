#include "block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "fault.h"
#include "schedule.h"

namespace cria::cuda::emulation {

thread_local constinit Lane* self = nullptr;

static Block& this_threads_block() {
  static thread_local Block block{};
  return block;
}

// --- who runs next ---

// The warp that runs goes on while it can; then the first that can, by turn.
static Lane* next_lane(Block& block) {
  Warp* warp = self->warp;
  const bool change = block.shuffled && block.ready && block.random() % 8 == 0;
  if (!warp->ready || change) {
    if (!block.ready) return nullptr;
    std::uint32_t choice = block.ready;
    // Of n warps that can run, in random order, any.
    for (int skip = block.shuffled ? block.random() % std::popcount(choice) : 0; skip > 0; --skip) choice &= choice - 1;
    warp = block.warps[block.order[std::countr_zero(choice)]].get();
  }
  return &warp->lanes[warp->order[std::countr_zero(warp->ready)]];
}

static void make_ready(Lane& lane) {
  lane.stand = Stand::kRunning;
  lane.warp->ready |= lane.turn;
  lane.warp->block->ready |= lane.warp->bit;
}

static void park(Lane& lane, Stand stand, const char* waits_for, Site site) {
  lane.stand = stand;
  lane.waits_for = waits_for;
  lane.site = site;
  lane.warp->ready &= ~lane.turn;
  if (!lane.warp->ready) lane.warp->block->ready &= ~lane.warp->bit;
}

// "lanes 0-31 at __syncthreads (rmsnorm.cu:34)", for each way that lanes of the warp stand.
static std::string describe(const Warp& warp) {
  std::string text;
  const int lanes = std::min(kWarpLanes, warp.block->launch->threads - warp.index * kWarpLanes);
  for (int first = 0, end; first < lanes; first = end) {
    const Lane& a = warp.lanes[first];
    for (end = first + 1; end < lanes; ++end) {
      const Lane& b = warp.lanes[end];
      if (a.stand != b.stand ||
          (a.stand != Stand::kExited && a.stand != Stand::kRunning && a.site.line != b.site.line)) {
        break;
      }
    }
    char line[256];
    std::snprintf(line, sizeof line, "\n  warp %d lanes %d-%d ", warp.index, first, end - 1);
    text += line;
    if (a.stand == Stand::kExited) {
      text += "have returned";
    } else if (a.stand == Stand::kRunning) {
      text += "can run";
    } else {
      std::snprintf(line, sizeof line, "wait at %s (%s:%d)", a.waits_for, a.site.file, a.site.line);
      text += line;
    }
  }
  return text;
}

static std::string describe(const Block& block) {
  std::string text;
  for (int w = 0; w < block.warp_count; ++w) text += describe(*block.warps[w]);
  return text;
}

// Runs the next lane until this one can go on.
static void give_way() {
  Lane* me = self;
  Lane* next = next_lane(*me->warp->block);
  if (!next) fail(cudaErrorLaunchTimeout, me->site, "deadlock: no lane can run%s", describe(*me->warp->block).c_str());
  if (next == me) return;
  self = next;
  cria_fibre_switch(&me->stack_pointer, next->stack_pointer);
}

// --- waiting ---

// A lane that another lane's collective counts on may not go elsewhere.
static void leave_no_group_waiting(const Lane& lane, const char* where, Site site) {
  const Warp& warp = *lane.warp;
  for (int g = 0; g < warp.group_count; ++g) {
    if (warp.groups[g].mask & lane.bit) {
      fail(cudaErrorLaunchFailure, site, "divergence: the lane comes to %s, but %s (%s:%d, mask %08x) waits for it",
           where, warp.groups[g].what->name, warp.groups[g].site.file, warp.groups[g].site.line, warp.groups[g].mask);
    }
  }
}

static Group& join_group(Lane& lane, const Collective& what, std::uint32_t mask, Site site) {
  Warp& warp = *lane.warp;
  if (!(mask & lane.bit)) fail(cudaErrorLaunchFailure, site, "%s: mask %08x leaves its own lane out", what.name, mask);
  if (const std::uint32_t gone = mask & warp.exited) {
    fail(cudaErrorLaunchFailure, site, "%s: mask %08x names lanes %08x, which have returned", what.name, mask, gone);
  }
  if (const std::uint32_t away = mask & warp.at_barrier) {
    fail(cudaErrorLaunchFailure, site, "divergence: %s (mask %08x) while lanes %08x wait at __syncthreads", what.name,
         mask, away);
  }
  for (int g = 0; g < warp.group_count; ++g) {
    Group& group = warp.groups[g];
    if (group.what == &what && group.mask == mask) {
      if (what.aligned && !same(group.site, site)) {
        fail(cudaErrorLaunchFailure, site, "divergence: %s is .aligned, but other lanes are at another one, %s:%d",
             what.name, group.site.file, group.site.line);
      }
      return group;
    }
    if ((group.mask & lane.bit) || (group.arrived & mask)) {
      fail(cudaErrorLaunchFailure, site, "divergence: %s (mask %08x), but lanes %08x are at %s (mask %08x, %s:%d)",
           what.name, mask, group.arrived, group.what->name, group.mask, group.site.file, group.site.line);
    }
  }
  Group& group = warp.groups[warp.group_count++];
  group = {&what, mask, 0, site};
  return group;
}

void collect(const Collective& what, std::uint32_t mask, void* operands, Site site) {
  Lane& lane = *self;
  Warp& warp = *lane.warp;
  Group& group = join_group(lane, what, mask, site);
  group.arrived |= lane.bit;
  lane.operands = operands;
  park(lane, Stand::kCollective, what.name, site);
  if (group.arrived == mask) {
    group = warp.groups[--warp.group_count];
    ++warp.block->counters.collectives;
    what.fold(Gathered{warp, mask});
    for (std::uint32_t left = mask; left; left &= left - 1) make_ready(warp.lanes[std::countr_zero(left)]);
  }
  give_way();
}

void block_barrier(Site site) {
  Lane& lane = *self;
  Block& block = *lane.warp->block;
  leave_no_group_waiting(lane, "__syncthreads", site);
  // bar.sync is .aligned: warps may meet from different ones, lanes of a warp may not.
  if (const std::uint32_t there = lane.warp->at_barrier) {
    const Site other = lane.warp->lanes[std::countr_zero(there)].site;
    if (!same(site, other)) {
      fail(cudaErrorLaunchFailure, site, "divergence: lanes %08x are at another __syncthreads, %s:%d", there,
           other.file, other.line);
    }
  }
  lane.warp->at_barrier |= lane.bit;
  park(lane, Stand::kBarrier, "__syncthreads", site);
  ++block.at_barrier;
  if (block.exited) {
    fail(cudaErrorLaunchFailure, site, "__syncthreads is not reached by all: %d lanes have returned", block.exited);
  }
  if (block.at_barrier == block.launch->threads) {
    ++block.counters.barriers;
    block.at_barrier = 0;
    for (int w = 0; w < block.warp_count; ++w) {
      Warp& warp = *block.warps[w];
      for (; warp.at_barrier; warp.at_barrier &= warp.at_barrier - 1) {
        make_ready(warp.lanes[std::countr_zero(warp.at_barrier)]);
      }
    }
  }
  give_way();
}

void wait_at(const std::uint64_t* mbarrier, Site site) {
  self->mbarrier = mbarrier;
  park(*self, Stand::kMbarrier, "mbarrier_wait", site);
  give_way();
}

void wake(const std::uint64_t* mbarrier) {
  Block& block = *self->warp->block;
  for (int w = 0; w < block.warp_count; ++w) {
    for (Lane& lane : block.warps[w]->lanes) {
      if (lane.stand == Stand::kMbarrier && lane.mbarrier == mbarrier) make_ready(lane);
    }
  }
}

// --- a lane's life ---

static void check_has_waited(const Lane& lane) {
  if (!lane.copies.pending.empty()) {
    fail(cudaErrorLaunchFailure, lane.copies.pending[0].site, "the lane returns with %zu cp.async in flight",
         lane.copies.pending.size());
  }
  if (lane.warp->block->launch->overlaps && !lane.waited_for_grid) {
    // Even one that reads nothing of the kernel before it: the kernel after it may.
    fail(cudaErrorLaunchFailure, lane.site, "launched with Overlap::kYes, but without grid_dependency_wait()");
  }
  if (lane.wgmma.in_flight()) fail(cudaErrorLaunchFailure, lane.site, "the lane returns with a wgmma in flight");
}

// A wgmma or setmaxnreg is one instruction of four warps: all of their lanes issue the same ones in the same order.
static void check_same_wgmmas(const Block& block, int first_warp) {
  const LaneWgmma& first = block.warps[first_warp]->lanes[0].wgmma;
  for (int w = first_warp; w < first_warp + 4; ++w) {
    for (const Lane& lane : block.warps[w]->lanes) {
      if (lane.wgmma.history != first.history) {
        fail(cudaErrorLaunchFailure, lane.site, "warps %d to %d did not issue the same wgmmas and setmaxnregs",
             first_warp, first_warp + 3);
      }
    }
  }
}

static void check_nothing_in_flight(const Block& block) {
  if (!block.copies.bulk.empty()) {
    fail(cudaErrorLaunchFailure, block.copies.bulk[0].site, "the block returns with %zu bulk copies in flight",
         block.copies.bulk.size());
  }
  for (int w = 0; w + 4 <= block.warp_count; w += 4) check_same_wgmmas(block, w);
  if (block.shared.overrun())
    fail(cudaErrorIllegalAddress, {"", 0}, "bytes after the end of shared memory were written");
}

static void lane_main() {
  self->warp->block->launch->body();
  Lane& lane = *self;
  Block& block = *lane.warp->block;
  check_has_waited(lane);
  leave_no_group_waiting(lane, "its end", lane.site);
  park(lane, Stand::kExited, "", lane.site);
  lane.warp->exited |= lane.bit;
  if (++block.exited == block.launch->threads) {
    check_nothing_in_flight(block);
    self = nullptr;
    void* nowhere;
    cria_fibre_switch(&nowhere, block.main);
  }
  if (block.at_barrier) {
    fail(cudaErrorLaunchFailure, lane.site, "__syncthreads is not reached by all: a lane returns%s",
         describe(block).c_str());
  }
  give_way();
}

static void begin_lane(Block& block, Warp& warp, int l) {
  Lane& lane = warp.lanes[l];
  const unsigned thread = warp.index * kWarpLanes + l;
  lane.stack_pointer = block.stacks[thread]->begin(lane_main);
  lane.thread = {thread, 0, 0};
  lane.warp = &warp;
  lane.bit = 1u << l;
  lane.site = {"", 0};
  lane.copies.pending.clear();
  lane.copies.committed.clear();
  lane.wgmma.clear();
  lane.waited_for_grid = false;
  make_ready(lane);
}

static void begin_warp(Block& block, int w, std::uint32_t bit) {
  if (!block.warps[w]) block.warps[w] = std::make_unique<Warp>();
  Warp& warp = *block.warps[w];
  warp.block = &block;
  warp.index = w;
  warp.bit = bit;
  warp.ready = warp.at_barrier = warp.group_count = 0;
  order_of(warp.order.data(), kWarpLanes, block.random);
  for (int turn = 0; turn < kWarpLanes; ++turn) warp.lanes[warp.order[turn]].turn = 1u << turn;
  const int lanes = std::min(kWarpLanes, block.launch->threads - w * kWarpLanes);
  // The lanes that a last, partial warp lacks count as returned.
  warp.exited = lanes == kWarpLanes ? 0 : ~0u << lanes;
  for (int l = lanes; l < kWarpLanes; ++l) warp.lanes[l].stand = Stand::kExited;
  for (int l = 0; l < lanes; ++l) begin_lane(block, warp, l);
}

static void run_block(Block& block, uint3 index) {
  block.index = index;
  block.ready = 0;
  block.at_barrier = block.exited = 0;
  block.shared.reset(block.launch->shared);
  block.copies.bulk.clear();
  block.copies.mbarriers.clear();
  order_of(block.order.data(), block.warp_count, block.random);
  for (int turn = 0; turn < block.warp_count; ++turn) begin_warp(block, block.order[turn], 1u << turn);
  ++block.counters.blocks;

  const Warp& first = *block.warps[block.order[0]];
  self = &block.warps[block.order[0]]->lanes[first.order[std::countr_zero(first.ready)]];
  cria_fibre_switch(&block.main, self->stack_pointer);
  report_signal();
  self = nullptr;
}

bool run_grid(const Launch& launch) {
  Block& block = this_threads_block();
  block.launch = &launch;
  block.threads = {static_cast<unsigned>(launch.threads), 1, 1};
  block.grid = {launch.grid.x, launch.grid.y, launch.grid.z};
  block.warp_count = (launch.threads + kWarpLanes - 1) / kWarpLanes;
  while (block.stacks.size() < static_cast<std::size_t>(launch.threads)) {
    block.stacks.push_back(std::make_unique<FibreStack>(static_cast<int>(block.stacks.size())));
  }
  const Schedule schedule = current_schedule();
  block.random.seed(schedule.seed);
  block.shuffled = schedule.order == Order::kRandom;
  block.counters = {};
  block.counters.launches = 1;

  clear_fault();
  const SignalGuard guard(block.main);
  for (std::uint64_t index : blocks_of(launch.grid, block.random)) {
    const auto x = static_cast<unsigned>(index % launch.grid.x);
    const auto y = static_cast<unsigned>(index / launch.grid.x % launch.grid.y);
    const auto z = static_cast<unsigned>(index / launch.grid.x / launch.grid.y);
    run_block(block, {x, y, z});
    if (fault().code != cudaSuccess) return false;
  }
  add_counters(launch.kernel, block.counters);
  return true;
}

}  // namespace cria::cuda::emulation
