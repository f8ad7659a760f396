#include "report.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <sstream>

namespace cria::cuda::check {
namespace {

// What a command prints, without the last newline; empty where there is no such command.
std::string output_of(const char* command) {
  std::string output;
  if (FILE* pipe = popen(command, "r")) {
    char buffer[256];
    while (std::fgets(buffer, sizeof(buffer), pipe)) output += buffer;
    if (pclose(pipe) != 0) return "";
  }
  while (!output.empty() && output.back() == '\n') output.pop_back();
  return output;
}

// The sources' commit, with "+" after it where files have changed since; empty where it is not known.
std::string commit() {
  const std::string git = "git -C '" CRIA_SOURCE_DIR "' ";
  const std::string hash = output_of((git + "rev-parse HEAD 2>/dev/null").c_str());
  const std::string changed = output_of((git + "status --porcelain --untracked-files=no 2>/dev/null").c_str());
  return hash + (hash.empty() || changed.empty() ? "" : "+");
}

std::string date() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

std::string system_name() {
  utsname name{};
  uname(&name);
  return std::string(name.sysname) + " " + name.release;
}

// Clocks are read, never set: what the GPU ran at in the end, and what it may run at.
std::string clocks() {
  return output_of(
      "nvidia-smi --id=0 --query-gpu=clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,driver_version "
      "--format=csv,noheader 2>/dev/null");
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", c);
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// JSON has no numbers but finite ones.
std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  std::ostringstream out;
  out.precision(17);
  out << value;
  return out.str();
}

// An object whose values are JSON already.
std::string object(const std::vector<std::pair<std::string, std::string>>& fields) {
  std::string out = "{";
  for (const auto& [name, value] : fields) out += (out.size() > 1 ? ", " : "") + quoted(name) + ": " + value;
  return out + "}";
}

template <class T>
std::string array(const std::vector<T>& values, std::string (*json)(const T&)) {
  std::string out = "[";
  for (const T& value : values) out += (out.size() > 1 ? ",\n    " : "\n    ") + json(value);
  return out + "\n  ]";
}

std::string check_json(const Result& result) {
  return object({{"op", quoted(result.op)},
                 {"shape", quoted(result.shape)},
                 {"error", number(result.error)},
                 {"tolerance", number(result.tolerance)},
                 {"passed", result.passed ? "true" : "false"}});
}

std::string timing_json(const Timing& timing) {
  std::vector<std::pair<std::string, std::string>> at;
  for (const auto& [name, value] : timing.at) {
    const bool digits = !value.empty() && value.find_first_not_of("0123456789") == std::string::npos;
    at.emplace_back(name, digits ? value : quoted(value));
  }
  const bool limited = timing.limit > 0.0;
  return object({{"name", quoted(timing.name)},
                 {"by", quoted("cria")},
                 {"isa", quoted("cuda")},
                 {"threads", "1"},
                 {"value", number(timing.value)},
                 {"unit", quoted(timing.unit)},
                 {"limit", limited ? number(timing.limit) : "null"},
                 {"share", limited ? number(timing.value / timing.limit) : "null"},
                 {"spread", number(timing.spread)},
                 {"samples", std::to_string(timing.samples)},
                 {"micros", number(timing.micros)},
                 {"bytes", number(timing.bytes)},
                 {"operations", number(timing.operations)},
                 {"model", quoted(timing.model)},
                 {"at", object(at)}});
}

std::string machine_json(const Report& report) {
  const DeviceFacts& device = report.device;
  return object(
      {{"processor", quoted(device.name)},
       {"cores", std::to_string(device.multiprocessors)},
       {"memoryBytes", std::to_string(device.memory_bytes)},
       {"system", quoted(system_name())},
       {"gpu", object({{"capability", quoted(std::to_string(device.major) + "." + std::to_string(device.minor))},
                       {"cuda", quoted(report.cuda)},
                       {"clocks", quoted(clocks())}})}});
}

std::string limits_json(const Limits& limits) {
  return object({{"readGBs", number(limits.read / 1e9)},
                 {"copyGBs", number(limits.copy / 1e9)},
                 {"fmaGflops", "null"},
                 {"maddubsGops", "null"},
                 {"dpbusdGops", "null"},
                 {"bf16dotGflops", "null"},
                 {"tensorBf16Gflops", number(limits.bf16 / 1e9)},
                 {"tensorInt8Gops", number(limits.int8 / 1e9)}});
}

}  // namespace

std::string command_line(int count, char** arguments) {
  std::string line;
  for (int i = 0; i < count; ++i) line += (i > 0 ? " " : "") + std::string(arguments[i]);
  return line;
}

bool all_passed(const Report& report) {
  return !report.checks.empty() &&
         std::all_of(report.checks.begin(), report.checks.end(), [](const Result& result) { return result.passed; });
}

void print_timing(const Timing& timing) {
  std::string at;
  for (const auto& [name, value] : timing.at) at += " " + name + "=" + value;
  std::printf("%-28s %12.1f us %12.1f %-8s", timing.name.c_str(), timing.micros, timing.value, timing.unit.c_str());
  if (timing.limit > 0.0) std::printf(" %5.1f %% of %.1f", 100.0 * timing.value / timing.limit, timing.limit);
  std::printf("  %.3g bytes, %.3g operations, spread %.0f %%%s\n", timing.bytes, timing.operations,
              100.0 * timing.spread, at.c_str());
  std::fflush(stdout);
}

// A line for each op: how many checks, how many failed, and how near the worst came to its tolerance.
void print_summary(const Report& report) {
  struct Sum {
    int checks = 0, failed = 0;
    double error = 0.0, tolerance = 0.0;
  };
  std::map<std::string, Sum> sums;
  for (const Result& result : report.checks) {
    Sum& sum = sums[result.op];
    ++sum.checks;
    sum.failed += !result.passed;
    if (sum.checks == 1 || !(result.error * sum.tolerance <= sum.error * result.tolerance)) {
      sum.error = result.error;
      sum.tolerance = result.tolerance;
    }
  }
  std::printf("\n%-16s %7s %7s  %s\n", "op", "checks", "failed", "worst error, of its tolerance");
  for (const auto& [op, sum] : sums) {
    std::printf("%-16s %7d %7d  %.3g of %.3g\n", op.c_str(), sum.checks, sum.failed, sum.error, sum.tolerance);
  }
}

bool write_json(const Report& report, const std::string& path) {
  std::ofstream out(path);
  out << "{\n  \"version\": 1,\n  \"date\": " << quoted(date()) << ",\n";
  if (const std::string of = commit(); !of.empty()) out << "  \"commit\": " << quoted(of) << ",\n";
  out << "  \"command\": " << quoted(report.command) << ",\n";
  out << "  \"machine\": " << machine_json(report) << ",\n";
  out << "  \"limits\": " << limits_json(report.limits) << ",\n";
  out << "  \"results\": " << array(report.timings, timing_json) << ",\n";
  out << "  \"checks\": " << array(report.checks, check_json) << "\n}\n";
  out.close();
  return !out.fail();
}

}  // namespace cria::cuda::check
