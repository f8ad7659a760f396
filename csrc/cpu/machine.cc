#include "machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>

namespace cria::cpu {
namespace {

constexpr double kMostThreads = 256;  // as cria_device_options has it
constexpr double kNoQuota = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

// The number that a file holds; nothing for "max", for -1, or for no file.
std::optional<double> number_in(const std::string& path) {
  const auto line = first_line(path);
  if (!line) return std::nullopt;
  std::istringstream words(*line);
  double value;
  if (!(words >> value) || value < 0) return std::nullopt;
  return value;
}

// Calls `visit` with the folder of each control group that this process is in, for the given controller, from its own
// up to the root: a limit anywhere on the way binds.
template <class Visit>
void each_control_group(const std::string& controller, Visit visit) {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    // "0::/path" in version 2, "4:memory:/path" or "1:cpu,cpuacct:/path" in version 1.
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string root = "/sys/fs/cgroup";
    if (controllers != ",,") {
      if (controllers.find("," + controller + ",") == std::string::npos) continue;
      root += "/" + line.substr(first + 1, second - first - 1);
    }
    // Inside a container the path may be the host's; the root then is the container's own group.
    for (std::string path = line.substr(second + 1);;) {
      visit(root + path);
      if (path.empty() || path == "/") break;
      path.resize(path.rfind('/'));
    }
    visit(root);
  }
}

double cpu_quota() {
  double quota = kNoQuota;
  each_control_group("cpu", [&](const std::string& group) {
    if (const auto line = first_line(group + "/cpu.max")) {
      std::istringstream words(*line);
      double limit, period;
      if (words >> limit >> period && period > 0) quota = std::min(quota, limit / period);
    }
    const auto limit = number_in(group + "/cpu.cfs_quota_us"), period = number_in(group + "/cpu.cfs_period_us");
    if (limit && period && *period > 0) quota = std::min(quota, *limit / *period);
  });
  return quota;
}

unsigned physical_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) != 0) {
    return static_cast<unsigned>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  }
  std::set<std::string> cores;  // named by their list of sibling threads
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string id = std::to_string(cpu);
    cores.insert(first_line("/sys/devices/system/cpu/cpu" + id + "/topology/thread_siblings_list").value_or(id));
  }
  return static_cast<unsigned>(cores.size());
}

// The number after `key` in a file of a key and a number a line; 0 where there is none.
std::uint64_t field(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value;
    if (words >> name >> value && name == key) return value;
  }
  return 0;
}

// A version 1 group without a limit reports a number near 2^63; nobody has an exbibyte.
bool is_limit(double bytes) { return bytes < 0x1p60; }

}  // namespace

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(std::min(line.size(), line.find(':') + 2));
  }
  return "x86-64";
}

unsigned default_threads() {
  const double quota = std::floor(cpu_quota());
  const double cores = physical_cores();
  return static_cast<unsigned>(std::clamp(std::min(cores, quota), 1.0, kMostThreads));
}

MemorySize machine_memory() {
  const auto kib = [](const char* key) { return field("/proc/meminfo", key) * 1024; };
  MemorySize memory{kib("MemTotal:"), kib("MemAvailable:")};
  each_control_group("memory", [&](const std::string& group) {
    const auto v2 = number_in(group + "/memory.max"), v1 = number_in(group + "/memory.limit_in_bytes");
    const auto limit = v2 ? v2 : v1;
    if (!limit || !is_limit(*limit)) return;
    // What the group holds apart from the page cache, which gives way: anonymous and shared memory, in the two
    // versions.
    const std::string stat = group + "/memory.stat";
    const std::uint64_t held =
        v2 ? field(stat, "anon") + field(stat, "shmem") : field(stat, "total_rss") + field(stat, "total_shmem");
    const auto bytes = static_cast<std::uint64_t>(*limit);
    memory.total = std::min(memory.total, bytes);
    memory.available = std::min(memory.available, bytes - std::min(bytes, held));
  });
  return memory;
}

}  // namespace cria::cpu
