#include "copies.h"

#include <bit>
#include <cstring>

#include "access.h"
#include "block.h"
#include "fault.h"

namespace cria::cuda::emulation {

// While a copy is in flight nobody writes where it lands: both orders are possible on a GPU.
static void land(const Copy& copy) {
  for (std::size_t i = 0; i < copy.bytes; ++i) {
    if (copy.to[i] != kPoison) {
      fail(cudaErrorLaunchFailure, copy.site, "byte %zu of an asynchronous copy's destination was written in flight",
           i);
    }
  }
  if (copy.from) {
    std::memcpy(copy.to, copy.from, copy.bytes);
  } else {
    std::memset(copy.to, 0, copy.bytes);
  }
}

static void issue(void* shared, const void* global, std::size_t bytes, Site site) {
  check_shared(shared, bytes, bytes, "cp.async's destination", site);
  std::memset(shared, kPoison, bytes);
  self->copies.pending.push_back({static_cast<unsigned char*>(shared), global, bytes, nullptr, site});
  block().counters.cp_async_bytes += bytes;
}

void cp_async_16(void* shared, const void* global, Site site) {
  check_global(global, 16, 16, "cp.async's source", site);
  issue(shared, global, 16, site);
}

void cp_async_16(void* shared, const void* global, bool valid, Site site) {
  if (valid) {
    cp_async_16(shared, global, site);
  } else {
    issue(shared, nullptr, 16, site);
  }
}

void cp_async_4(void* shared, const void* global, Site site) {
  check_global(global, 4, 4, "cp.async's source", site);
  issue(shared, global, 4, site);
}

void cp_async_commit(Site) { self->copies.committed.push_back(self->copies.pending.size()); }

void cp_async_wait_groups(int newest, Site) {
  auto& [pending, committed] = self->copies;
  if (committed.size() <= static_cast<std::size_t>(newest)) return;
  const std::size_t groups = committed.size() - newest;
  const std::size_t copies = committed[groups - 1];
  for (std::size_t i = 0; i < copies; ++i) land(pending[i]);
  pending.erase(pending.begin(), pending.begin() + copies);
  committed.erase(committed.begin(), committed.begin() + groups);
  for (std::size_t& end : committed) end -= copies;
}

namespace {

// An mbarrier's 64 bits. PTX leaves them opaque; these are the counts its text defines. Poison has `unset` set.
struct Mbarrier {
  std::uint64_t pending : 20;   // arrivals the phase still waits for
  std::uint64_t expected : 20;  // arrivals of a phase
  std::uint64_t tx : 21;        // bytes the phase still waits for, plus kNoTx: copies may land before they are expected
  std::uint64_t parity : 1;     // of the phase that is not complete yet
  std::uint64_t published : 1;  // the async proxy may use it
  std::uint64_t unset : 1;
};
constexpr std::uint64_t kNoTx = 1 << 20;
static_assert(sizeof(Mbarrier) == 8);

Mbarrier load(std::uint64_t* mbarrier, const char* what, Site site) {
  check_shared(mbarrier, 8, 8, what, site);
  const auto state = std::bit_cast<Mbarrier>(*mbarrier);
  if (state.unset) fail(cudaErrorLaunchFailure, site, "%s: this mbarrier is not initialised", what);
  return state;
}

// Stores the state, after turning the phase where it is complete.
void store(std::uint64_t* mbarrier, Mbarrier state) {
  if (state.pending == 0 && state.tx == kNoTx) {
    state.pending = state.expected;
    state.parity ^= 1;
  }
  // Where only copies are missing a waiting lane wakes too: it makes them land.
  const bool news = state.pending == 0 || state.parity != std::bit_cast<Mbarrier>(*mbarrier).parity;
  *mbarrier = std::bit_cast<std::uint64_t>(state);
  if (news) wake(mbarrier);
}

void arrive(std::uint64_t* mbarrier, Mbarrier state, Site site) {
  if (state.pending == 0) fail(cudaErrorLaunchFailure, site, "more arrivals at an mbarrier than its phase expects");
  --state.pending;
  store(mbarrier, state);
}

// The oldest copy that reports to `mbarrier` lands, in both views. False where there is none.
bool land_one(std::uint64_t* mbarrier, Mbarrier state) {
  std::vector<Copy>& bulk = block().copies.bulk;
  for (std::size_t i = 0; i < bulk.size(); ++i) {
    if (bulk[i].mbarrier != mbarrier) continue;
    const Copy copy = bulk[i];
    bulk.erase(bulk.begin() + i);
    land(copy);
    SharedMemory& shared = block().shared;
    std::memcpy(shared.async_view() + (copy.to - shared.data()), copy.to, copy.bytes);
    state.tx -= copy.bytes;
    store(mbarrier, state);
    return true;
  }
  return false;
}

}  // namespace

void mbarrier_init(std::uint64_t* mbarrier, int arrivals, Site site) {
  check_shared(mbarrier, 8, 8, "mbarrier_init", site);
  if (arrivals < 1 || arrivals >= 1 << 20) fail(cudaErrorLaunchFailure, site, "an mbarrier of %d arrivals", arrivals);
  const auto count = static_cast<std::uint64_t>(arrivals);
  *mbarrier = std::bit_cast<std::uint64_t>(Mbarrier{count, count, kNoTx, 0, 0, 0});
  block().copies.mbarriers.push_back(mbarrier);
}

void fence_mbarrier_init(Site) {
  for (std::uint64_t* mbarrier : block().copies.mbarriers) {
    auto state = std::bit_cast<Mbarrier>(*mbarrier);
    state.published = 1;
    *mbarrier = std::bit_cast<std::uint64_t>(state);
  }
}

void mbarrier_arrive(std::uint64_t* mbarrier, Site site) {
  arrive(mbarrier, load(mbarrier, "mbarrier_arrive", site), site);
}

void mbarrier_expect_tx(std::uint64_t* mbarrier, int bytes, Site site) {
  Mbarrier state = load(mbarrier, "mbarrier_expect_tx", site);
  state.tx += bytes;
  arrive(mbarrier, state, site);
}

void mbarrier_wait(std::uint64_t* mbarrier, int parity, Site site) {
  for (;;) {
    const Mbarrier state = load(mbarrier, "mbarrier_wait", site);
    if (state.parity != static_cast<unsigned>(parity)) return;
    if (state.pending == 0 && land_one(mbarrier, state)) continue;
    wait_at(mbarrier, site);
  }
}

void bulk_copy(void* shared, const void* global, int bytes, std::uint64_t* mbarrier, Site site) {
  if (bytes <= 0 || bytes % 16 != 0) fail(cudaErrorMisalignedAddress, site, "a bulk copy of %d bytes", bytes);
  check_shared(shared, bytes, 16, "a bulk copy's destination", site);
  check_global(global, bytes, 16, "a bulk copy's source", site);
  if (!load(mbarrier, "bulk_copy", site).published) {
    fail(cudaErrorLaunchFailure, site, "a bulk copy's mbarrier was not published by fence_mbarrier_init");
  }
  std::memset(shared, kPoison, bytes);
  SharedMemory& memory = block().shared;
  auto to = static_cast<unsigned char*>(shared);
  std::memset(memory.async_view() + (to - memory.data()), kPoison, bytes);
  block().copies.bulk.push_back({to, global, static_cast<std::size_t>(bytes), mbarrier, site});
  block().counters.bulk_bytes += bytes;
}

void fence_proxy_async(Site) { block().shared.publish(); }

}  // namespace cria::cuda::emulation
