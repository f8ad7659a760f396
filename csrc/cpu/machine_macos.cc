#include <mach/mach.h>
#include <sys/sysctl.h>

#include <algorithm>

#include "machine.h"

namespace cria::cpu {
namespace {

template <class Number>
Number system_number(const char* name) {
  Number number = 0;
  std::size_t size = sizeof(number);
  return ::sysctlbyname(name, &number, &size, nullptr, 0) == 0 ? number : 0;
}

}  // namespace

unsigned default_threads() { return static_cast<unsigned>(std::clamp(system_number<int>("hw.physicalcpu"), 1, 256)); }

MemorySize machine_memory() {
  vm_statistics64 pages{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  ::host_statistics64(::mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&pages), &count);
  // Inactive pages give way, most of them to be read again from a file.
  const std::uint64_t available = std::uint64_t{pages.free_count} + pages.inactive_count;
  return {system_number<std::uint64_t>("hw.memsize"), available * vm_page_size};
}

}  // namespace cria::cpu
