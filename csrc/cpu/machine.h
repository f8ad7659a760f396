// What this process may use of the machine it runs on.
#pragma once

#include <cstdint>
#include <string>

namespace cria::cpu {

std::string processor_name();

// min(physical cores in the affinity mask, the control groups' CPU quota rounded down), from 1 to 256. More threads
// than that wait for one another: a quota stops all of them when it is used up, and a step waits for the chunk of one
// that is off its core.
unsigned default_threads();

struct MemorySize {
  std::uint64_t total, available;
};

// The machine's memory, or the control group's where that is less: `available` is what its limit leaves.
MemorySize machine_memory();

}  // namespace cria::cpu
