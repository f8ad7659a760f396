// A block: its warps, their lanes, and who runs next.
//
// A lane runs until it must wait: at a collective of its warp for the other lanes, at __syncthreads for the block, at
// an mbarrier for its phase. Then the next lane of its warp that can run does, and when there is none, another warp. So
// a warp runs as far ahead of the others as its barriers allow, which is what finds the missing ones.
//
//     Block ── Warp ── Lane          at a collective a lane leaves the address of its operands; the lane that comes
//       │        └─ Group, Group     last does the work for all (the collective's `fold`), from stack to stack
//       └─ shared memory, copies in flight
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "copies.h"
#include "counters.h"
#include "fibre.h"
#include "memory.h"
#include "site.h"
#include "vectors.h"
#include "wgmma.h"

namespace cria::cuda::emulation {

constexpr int kWarpLanes = 32;
constexpr int kMaxThreads = 1024;  // a block's limit on every GPU so far

struct Block;
struct Warp;

/// Where a lane stands.
enum class Stand : std::uint8_t { kRunning, kCollective, kBarrier, kMbarrier, kExited };

struct Lane {
  void* stack_pointer;  // where it stopped
  uint3 thread;         // threadIdx
  Warp* warp;
  std::uint32_t bit;   // in its warp's masks
  std::uint32_t turn;  // in its warp's `ready`
  Stand stand;
  Site site;                      // where it waits
  const char* waits_for;          // the collective's name
  const std::uint64_t* mbarrier;  // the one it waits for
  void* operands;                 // what it brings to a collective, on its own stack
  LaneCopies copies;
  LaneWgmma wgmma;
  bool waited_for_grid;  // grid_dependency_wait()
};

struct Gathered;

/// A kind of warp collective. `aligned` ones (PTX's .aligned) must be the same instruction in every lane.
struct Collective {
  const char* name;
  bool aligned;
  void (*fold)(const Gathered&);
};

/// Lanes that have come to a collective, and those they wait for.
struct Group {
  const Collective* what;
  std::uint32_t mask, arrived;
  Site site;
};

struct Warp {
  Block* block;
  int index;
  std::uint32_t bit;                           // in block.ready, by its turn
  std::uint32_t ready;                         // lanes that can run, by turn
  std::uint32_t at_barrier, exited;            // by lane
  std::array<std::uint8_t, kWarpLanes> order;  // turn -> lane
  std::array<Lane, kWarpLanes> lanes;
  std::array<Group, kWarpLanes> groups;
  int group_count;
};

/// What the last lane of a collective works on.
struct Gathered {
  Warp& warp;
  std::uint32_t mask;
  bool holds(int lane) const { return mask >> lane & 1; }
  template <class Operands>
  Operands& of(int lane) const {
    return *static_cast<Operands*>(warp.lanes[lane].operands);
  }
};

struct Launch {
  std::string kernel;  // its name, for reports and counters
  dim3 grid;
  int threads;
  std::size_t shared;
  bool overlaps;               // may begin before the kernel before it ends
  std::function<void()> body;  // the kernel with its operands
};

/// The block that an OS thread is running. Blocks of a grid follow one another on it.
struct Block {
  const Launch* launch;
  uint3 index;          // blockIdx
  uint3 threads;        // blockDim
  uint3 grid;           // gridDim
  void* main;           // where run_block waits for the last lane, or for a fault
  std::uint32_t ready;  // warps with a lane that can run, by turn
  int warp_count, at_barrier, exited;
  std::array<std::uint8_t, kMaxThreads / kWarpLanes> order;  // turn -> warp
  std::array<std::unique_ptr<Warp>, kMaxThreads / kWarpLanes> warps;
  std::vector<std::unique_ptr<FibreStack>> stacks;
  SharedMemory shared;
  BlockCopies copies;
  std::minstd_rand random;
  bool shuffled;  // warps also change places at collectives
  Counters counters;
};

// The lane that runs on this OS thread, null outside a kernel. Fibres never change threads, so its address may be kept
// across a switch. initial-exec: one load, not a call, in a library that is loaded late.
extern thread_local constinit Lane* self __attribute__((tls_model("initial-exec")));

inline Block& block() { return *self->warp->block; }

/// Runs every block of a grid on this OS thread. Returns false where a lane failed: fault() says how.
bool run_grid(const Launch& launch);

/// Waits for all lanes of `mask`, which must come to the same collective with the same mask, and has the last one fold.
/// `operands` are this lane's, read and written by the fold.
void collect(const Collective& what, std::uint32_t mask, void* operands, Site site);

/// __syncthreads.
void block_barrier(Site site);

/// Waits until wake(mbarrier).
void wait_at(const std::uint64_t* mbarrier, Site site);
void wake(const std::uint64_t* mbarrier);

}  // namespace cria::cuda::emulation
