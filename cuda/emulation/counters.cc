#include "counters.h"

#include <mutex>

namespace cria::cuda::emulation {

static std::mutex mutex;
static std::map<std::string, Counters> by_kernel;

Counters& Counters::operator+=(const Counters& other) {
  launches += other.launches;
  blocks += other.blocks;
  collectives += other.collectives;
  barriers += other.barriers;
  mma += other.mma;
  ldmatrix += other.ldmatrix;
  ldmatrix_conflicts += other.ldmatrix_conflicts;
  cp_async_bytes += other.cp_async_bytes;
  bulk_bytes += other.bulk_bytes;
  return *this;
}

std::map<std::string, Counters> counters() {
  const std::lock_guard lock(mutex);
  return by_kernel;
}

void reset_counters() {
  const std::lock_guard lock(mutex);
  by_kernel.clear();
}

void add_counters(const std::string& kernel, const Counters& counters) {
  const std::lock_guard lock(mutex);
  by_kernel[kernel] += counters;
}

}  // namespace cria::cuda::emulation
