// Copies that run beside the lanes: cp.async, and bulk copies that report to an mbarrier.
//
// Both land as late as they may: a cp.async at its lane's wait, a bulk copy when a lane waits for its mbarrier and
// nothing else is missing. From issue to landing the destination is poison, so whoever reads too soon reads NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "site.h"

namespace cria::cuda::emulation {

struct Copy {
  unsigned char* to;
  const void* from;  // null: zeros
  std::size_t bytes;
  std::uint64_t* mbarrier;  // of a bulk copy
  Site site;
};

/// The cp.async copies of one lane: those of committed groups, oldest first, then the open group's.
struct LaneCopies {
  std::vector<Copy> pending;
  std::vector<std::size_t> committed;  // where in `pending` each group ends
};

/// The bulk copies of a block, and its mbarriers.
struct BlockCopies {
  std::vector<Copy> bulk;
  std::vector<std::uint64_t*> mbarriers;
};

/// cp.async.cg.shared.global: 16 bytes past the L1 cache.
void cp_async_16(void* shared, const void* global, Site site = Site::here());
/// Zeros where not `valid`; `global` is then not read.
void cp_async_16(void* shared, const void* global, bool valid, Site site = Site::here());
/// cp.async.ca.shared.global: 4 bytes.
void cp_async_4(void* shared, const void* global, Site site = Site::here());
void cp_async_commit(Site site = Site::here());
void cp_async_wait_groups(int newest, Site site);
template <int kNewest>
void cp_async_wait(Site site = Site::here()) {
  cp_async_wait_groups(kNewest, site);
}

void mbarrier_init(std::uint64_t* mbarrier, int arrivals, Site site = Site::here());
void fence_mbarrier_init(Site site = Site::here());
void mbarrier_arrive(std::uint64_t* mbarrier, Site site = Site::here());
void mbarrier_expect_tx(std::uint64_t* mbarrier, int bytes, Site site = Site::here());
void mbarrier_wait(std::uint64_t* mbarrier, int parity, Site site = Site::here());
void bulk_copy(void* shared, const void* global, int bytes, std::uint64_t* mbarrier, Site site = Site::here());
void fence_proxy_async(Site site = Site::here());

}  // namespace cria::cuda::emulation
