#include <windows.h>

#include <algorithm>
#include <vector>

#include "machine.h"

namespace cria::cpu {

unsigned default_threads() {
  DWORD_PTR mine = 0, all = 0;
  ::GetProcessAffinityMask(::GetCurrentProcess(), &mine, &all);
  DWORD bytes = 0;
  ::GetLogicalProcessorInformation(nullptr, &bytes);
  std::vector<SYSTEM_LOGICAL_PROCESSOR_INFORMATION> parts(bytes / sizeof(SYSTEM_LOGICAL_PROCESSOR_INFORMATION));
  if (!::GetLogicalProcessorInformation(parts.data(), &bytes)) parts.clear();
  const auto cores = std::count_if(parts.begin(), parts.end(), [&](const auto& part) {
    return part.Relationship == RelationProcessorCore && (part.ProcessorMask & mine) != 0;
  });
  return static_cast<unsigned>(std::clamp<std::ptrdiff_t>(cores, 1, 256));
}

MemorySize machine_memory() {
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof(status);
  ::GlobalMemoryStatusEx(&status);
  return {status.ullTotalPhys, status.ullAvailPhys};
}

}  // namespace cria::cpu
