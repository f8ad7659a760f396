#include "wgmma.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "access.h"
#include "block.h"
#include "fault.h"
#include "matrix.h"

namespace cria::cuda::emulation {

constexpr std::uint32_t kWholeWarp = 0xffffffff;

void LaneWgmma::clear() {
  pending.clear();
  committed.clear();
  accumulators.clear();
  fenced = false;
  history = 0;
}

// A descriptor's fields are in units of 16 bytes, 14 bits each: start, leading offset, stride.
std::uint64_t smem_descriptor(const void* shared, int leading_bytes, int stride_bytes, Site site) {
  const std::size_t start = check_shared(shared, 16, 16, "a descriptor's start", site);
  if (leading_bytes % 16 != 0 || stride_bytes % 16 != 0 || leading_bytes < 0 || stride_bytes < 0 ||
      leading_bytes >= 1 << 18 || stride_bytes >= 1 << 18) {
    fail(cudaErrorMisalignedAddress, site, "a descriptor's offsets are %d and %d bytes", leading_bytes, stride_bytes);
  }
  return start >> 4 | static_cast<std::uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<std::uint64_t>(stride_bytes >> 4) << 32;
}

void wgmma_fence(Site) { self->wgmma.fenced = true; }

void wgmma_commit(Site) {
  self->wgmma.committed.push_back(self->wgmma.pending.size());
  self->wgmma.fenced = false;
}

static WgmmaAccumulators* take_accumulators(LaneWgmma& wgmma, void* c) {
  for (auto& accumulators : wgmma.accumulators) {
    if (accumulators->registers == c) return accumulators.get();
  }
  auto taken = std::make_unique<WgmmaAccumulators>();
  taken->registers = c;
  taken->uses = 0;
  std::memcpy(taken->sums.data(), c, sizeof(WgmmaSums));
  std::memset(c, kPoison, sizeof(WgmmaSums));
  wgmma.accumulators.push_back(std::move(taken));
  return wgmma.accumulators.back().get();
}

// A multiplicative hash: order counts.
static void note(LaneWgmma& wgmma, std::uint64_t what) { wgmma.history = (wgmma.history ^ what) * 0x9e3779b97f4a7c15; }

static void issue(void* c, const std::uint32_t (&a)[4], std::uint64_t b_descriptor, bool accumulate, bool f16,
                  Site site) {
  LaneWgmma& wgmma = self->wgmma;
  if (block().launch->threads % 128 != 0)
    fail(cudaErrorLaunchFailure, site, "wgmma in a block of %d threads", block().launch->threads);
  if (!wgmma.fenced) fail(cudaErrorLaunchFailure, site, "wgmma without a wgmma_fence since the last commit");
  WgmmaAccumulators* sums = take_accumulators(wgmma, c);
  ++sums->uses;
  wgmma.pending.push_back({sums, {a[0], a[1], a[2], a[3]}, b_descriptor, accumulate, f16, site});
  note(wgmma, b_descriptor ^ accumulate ^ f16 << 1);
}

void wgmma_s8_n128(int (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b_descriptor, bool accumulate, Site site) {
  issue(c, a, b_descriptor, accumulate, false, site);
}

void wgmma_f16_n128(float (&c)[64], const std::uint32_t (&a)[4], std::uint64_t b_descriptor, bool accumulate,
                    Site site) {
  issue(c, a, b_descriptor, accumulate, true, site);
}

static void read_b(std::int8_t (&b)[8][32], std::uint64_t descriptor, int block_of_n, Site site) {
  const std::size_t start = (descriptor & 0x3fff) << 4;
  const std::size_t leading = (descriptor >> 16 & 0x3fff) << 4;
  const std::size_t stride = (descriptor >> 32 & 0x3fff) << 4;
  SharedMemory& shared = block().shared;
  for (int k = 0; k < 2; ++k) {
    const std::size_t core = start + block_of_n * stride + k * leading;
    check_shared(shared.data() + core, 128, 16, "wgmma's B", site);
    for (int n = 0; n < 8; ++n) std::memcpy(&b[n][16 * k], shared.async_view() + core + 16 * n, 16);
  }
}

using A = std::int8_t[16][32];  // bytes: 16 rows of 32 int8, or of 16 binary16
using B = std::int8_t[8][32];

static void multiply_halves(float (&c)[16][8], const A& a, const B& b) {
  std::uint16_t rows[16][16], columns[8][16];
  std::memcpy(rows, a, sizeof rows);
  std::memcpy(columns, b, sizeof columns);
  multiply_f16(c, rows, columns);
}

// As unsigned, which may overflow as int32 does on a GPU.
static void multiply_unsigned(unsigned (&c)[16][8], const A& a, const B& b) {
  int sums[16][8] = {};
  multiply_s8(sums, a, b);
  std::memcpy(c, sums, sizeof sums);
}

// sum + c, or c: the accumulators' bits are read and written as Sum.
template <class Sum>
static std::uint32_t add_to(std::uint32_t bits, bool accumulate, Sum c) {
  const Sum before = accumulate ? std::bit_cast<Sum>(bits) : Sum{};
  return std::bit_cast<std::uint32_t>(before + c);
}

template <class Sum, void (*kMultiply)(Sum (&)[16][8], const A&, const B&)>
static void run_product(const Gathered& lanes, std::size_t index) {
  A a;
  const WgmmaProduct& first = lanes.warp.lanes[0].wgmma.pending[index];
  for (int l = 0; l < kWarpLanes; ++l) {
    const WgmmaProduct& product = lanes.warp.lanes[l].wgmma.pending[index];
    if (product.b != first.b || product.accumulate != first.accumulate || product.f16 != first.f16) {
      fail(cudaErrorLaunchFailure, product.site, "lanes of a warp issue different wgmmas");
    }
    std::uint32_t registers[4];
    std::copy(product.a.begin(), product.a.end(), registers);
    place_a(a, l, registers);
  }
  for (int n = 0; n < 16; ++n) {
    B b;
    Sum c[16][8] = {};
    read_b(b, first.b, n, first.site);
    kMultiply(c, a, b);
    for (int l = 0; l < kWarpLanes; ++l) {
      const WgmmaProduct& product = lanes.warp.lanes[l].wgmma.pending[index];
      const int g = l / 4, t = l % 4;
      for (int r = 0; r < 4; ++r) {
        std::uint32_t& sum = product.sums->sums[4 * n + r];
        sum = add_to(sum, product.accumulate, c[g + 8 * (r >> 1)][2 * t + (r & 1)]);
      }
    }
  }
  lanes.warp.block->counters.mma += 16;
}

// The products before `end` have run: accumulators that no other product waits for go back to the lane's registers.
static void retire(LaneWgmma& wgmma, std::size_t groups, std::size_t end) {
  for (std::size_t i = 0; i < end; ++i) --wgmma.pending[i].sums->uses;
  for (auto& accumulators : wgmma.accumulators) {
    if (accumulators->uses == 0) std::memcpy(accumulators->registers, accumulators->sums.data(), sizeof(WgmmaSums));
  }
  std::erase_if(wgmma.accumulators, [](const auto& accumulators) { return accumulators->uses == 0; });
  wgmma.pending.erase(wgmma.pending.begin(), wgmma.pending.begin() + end);
  wgmma.committed.erase(wgmma.committed.begin(), wgmma.committed.begin() + groups);
  for (std::size_t& group_end : wgmma.committed) group_end -= end;
}

static void fold_wait(const Gathered& lanes) {
  const LaneWgmma& first = lanes.warp.lanes[0].wgmma;
  const auto newest = static_cast<std::size_t>(lanes.of<int>(0));
  if (first.committed.size() <= newest) return;
  const std::size_t groups = first.committed.size() - newest;
  const std::size_t end = first.committed[groups - 1];
  for (int l = 0; l < kWarpLanes; ++l) {
    if (lanes.warp.lanes[l].wgmma.committed != first.committed) {
      fail(cudaErrorLaunchFailure, lanes.warp.lanes[l].site, "lanes of a warp committed different wgmmas");
    }
  }
  for (std::size_t i = 0; i < end; ++i) {
    if (first.pending[i].f16) {
      run_product<float, multiply_halves>(lanes, i);
    } else {
      run_product<unsigned, multiply_unsigned>(lanes, i);
    }
  }
  for (Lane& lane : lanes.warp.lanes) retire(lane.wgmma, groups, end);
}

void wgmma_wait_groups(int newest, Site site) {
  static const Collective kWgmmaWait{"wgmma_wait", true, fold_wait};
  collect(kWgmmaWait, kWholeWarp, &newest, site);
}

void check_setmaxnreg(int registers, Site site) {
  if (registers % 8 != 0 || registers < 24 || registers > 256) {
    fail(cudaErrorLaunchFailure, site, "setmaxnreg to %d registers: a multiple of 8 from 24 to 256 is", registers);
  }
  note(self->wgmma, registers);
}

}  // namespace cria::cuda::emulation
