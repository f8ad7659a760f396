// What a kernel did, summed over its launches.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace cria::cuda::emulation {

struct Counters {
  std::uint64_t launches = 0, blocks = 0;
  std::uint64_t collectives = 0;  // of a warp: shuffles, votes, mma, ldmatrix, ...
  std::uint64_t barriers = 0;     // __syncthreads, once a block
  std::uint64_t mma = 0;          // m16n8 products; a wgmma m64n128 is 64 of them
  std::uint64_t ldmatrix = 0;     // 8x8 matrices
  // Shared-memory wavefronts of ldmatrix beyond one a matrix: eight rows whose 16 bytes share banks go one by one.
  std::uint64_t ldmatrix_conflicts = 0;
  std::uint64_t cp_async_bytes = 0, bulk_bytes = 0;

  Counters& operator+=(const Counters& other);
};

/// By kernel.
std::map<std::string, Counters> counters();
void reset_counters();
void add_counters(const std::string& kernel, const Counters& counters);

}  // namespace cria::cuda::emulation
