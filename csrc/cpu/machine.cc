#include "machine.h"

#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cria::cpu {
namespace {

constexpr double kMostThreads = 256;  // as cria_device_options has it
constexpr double kNoQuota = std::numeric_limits<double>::infinity();
constexpr std::uint64_t kMostMemory = std::uint64_t{1} << 60;
constexpr std::string_view kSpace = " \t\n";

// A file of the system's; "" where it cannot be read. Not by way of streams: with them every library that holds its own
// C++ library would hold a megabyte of locales.
std::string contents(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  std::string text;
  if (file == nullptr) return text;
  char part[4096];
  for (std::size_t got; (got = std::fread(part, 1, sizeof(part), file.get())) > 0;) text.append(part, got);
  return text;
}

// The parts of a text between separators, the empty ones left out.
std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; (begin = text.find_first_not_of(separators, begin)) != std::string_view::npos;) {
    const std::size_t end = std::min(text.size(), text.find_first_of(separators, begin));
    parts.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return parts;
}

// Nothing for "max", for -1, or for no word.
std::optional<std::uint64_t> number(std::string_view word) {
  std::uint64_t value;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> number_in(const std::string& path) {
  const std::string text = contents(path);
  const auto words = split(text, kSpace);
  return words.empty() ? std::nullopt : number(words.front());
}

// Calls `visit` with the folder of each control group that this process is in, for the given controller, from its own
// up to the root: a limit anywhere on the way binds.
template <class Visit>
void each_control_group(const std::string& controller, Visit visit) {
  const std::string groups = contents("/proc/self/cgroup");
  for (const std::string_view each : split(groups, "\n")) {
    // "0::/path" in version 2, "4:memory:/path" or "1:cpu,cpuacct:/path" in version 1.
    const std::string line(each);
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
  const auto bound = [&](std::optional<std::uint64_t> limit, std::optional<std::uint64_t> period) {
    if (limit && period && *period > 0) {
      quota = std::min(quota, static_cast<double>(*limit) / static_cast<double>(*period));
    }
  };
  each_control_group("cpu", [&](const std::string& group) {
    const std::string v2 = contents(group + "/cpu.max");
    const auto words = split(v2, kSpace);
    if (words.size() == 2) bound(number(words[0]), number(words[1]));
    bound(number_in(group + "/cpu.cfs_quota_us"), number_in(group + "/cpu.cfs_period_us"));
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
    const std::string siblings = contents("/sys/devices/system/cpu/cpu" + id + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? id : siblings);
  }
  return static_cast<unsigned>(cores.size());
}

// The number after `key` in a file of a key and a number a line; 0 where there is none.
std::uint64_t field(const std::string& path, std::string_view key) {
  const std::string text = contents(path);
  for (const std::string_view line : split(text, "\n")) {
    const auto words = split(line, kSpace);
    if (words.size() >= 2 && words[0] == key) return number(words[1]).value_or(0);
  }
  return 0;
}

// Where /proc is not mounted, as in a bare chroot. It leaves out the page cache, which would give way.
MemorySize memory_without_proc() {
  struct sysinfo info {};
  ::sysinfo(&info);
  return {info.totalram * info.mem_unit, (info.freeram + info.bufferram) * info.mem_unit};
}

}  // namespace

unsigned default_threads() {
  const double quota = std::floor(cpu_quota());
  const double cores = physical_cores();
  return static_cast<unsigned>(std::clamp(std::min(cores, quota), 1.0, kMostThreads));
}

MemorySize machine_memory() {
  const auto kib = [](const char* key) { return field("/proc/meminfo", key) * 1024; };
  MemorySize memory{kib("MemTotal:"), kib("MemAvailable:")};
  if (memory.total == 0) memory = memory_without_proc();
  each_control_group("memory", [&](const std::string& group) {
    const auto v2 = number_in(group + "/memory.max"), v1 = number_in(group + "/memory.limit_in_bytes");
    const auto limit = v2 ? v2 : v1;
    // A version 1 group without a limit reports a number near 2^63; nobody has an exbibyte.
    if (!limit || *limit >= kMostMemory) return;
    // What the group holds apart from the page cache, which gives way: anonymous and shared memory, in the two
    // versions.
    const std::string stat = group + "/memory.stat";
    const std::uint64_t held =
        v2 ? field(stat, "anon") + field(stat, "shmem") : field(stat, "total_rss") + field(stat, "total_shmem");
    memory.total = std::min(memory.total, *limit);
    memory.available = std::min(memory.available, *limit - std::min(*limit, held));
  });
  return memory;
}

}  // namespace cria::cpu
