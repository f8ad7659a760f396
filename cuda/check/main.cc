// Every kernel against the scalar CPU kernels, the whole of them against the CPU's forward pass and, on a GPU, how fast
// they are. See kUsage.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <string>
#include <string_view>

#include "checks.h"
#include "report.h"

#ifdef CRIA_CHECK_GPU
#include "gpu/timings.h"
#endif

namespace cria::cuda::check {
namespace {

#ifdef CRIA_CHECK_GPU
constexpr bool kGpu = true;
constexpr cria_device_kind kDevice = CRIA_DEVICE_CUDA;
#else
constexpr bool kGpu = false;
constexpr cria_device_kind kDevice = CRIA_DEVICE_CUDA_EMULATED;
#endif

struct Op {
  const char* name;
  void (*check)(Checks&);
};
constexpr Op kOps[] = {
    {"pack", check_pack},
    {"embed", check_embed},
    {"rmsnorm", check_rmsnorm},
    {"quantize", check_quantize},
    {"matmul_q", check_matmul_q},
    {"matmul_gemm", check_matmul_gemm},
    {"matmul_f", check_matmul_f},
    {"rope", check_rope},
    {"kv_move", check_kv_move},
    {"attention", check_attention},
    {"prefix_attention", check_prefix_attention},
    {"swiglu", check_swiglu},
    {"add", check_add},
    {"select", check_select},
    {"sample", check_sample},
    {"forward", [](Checks& checks) { check_forward(checks, kDevice); }},
    {"graphs", [](Checks& checks) { check_graphs(checks, kDevice); }},
};

enum Exit { kFailed = 1, kUsageError = 2, kNoGpu = 3 };

constexpr const char* kUsage =
    "usage: %s [--only OP] [--awkward | --real] [--order forward|reverse|random] [--no-timings] [--json FILE]\n"
    "       %s --list | --help\n"
    "\n"
    "  --only OP     one op's check, and no timings\n"
    "  --awkward     the small shapes at which kernels go wrong; under the emulation the default\n"
    "  --real        the shapes of models; on a GPU the default is both\n"
    "  --order O     in which the emulation has blocks, warps and lanes take turns\n"
    "  --no-timings  on a GPU, checks alone\n"
    "  --json FILE   writes what was found, as cria's benchmark does\n"
    "  --list        the ops' names\n"
    "\n"
    "The exit code is 1 where a check failed, 2 where the arguments were not these, 3 where there is no GPU.\n";

struct Options {
  std::string only, json;
  bool awkward = true, real = kGpu, timings = kGpu, list = false;
};

[[noreturn]] void refuse(const char* program, const std::string& why) {
  std::fprintf(stderr, "%s\n\n", why.c_str());
  std::fprintf(stderr, kUsage, program, program);
  std::exit(kUsageError);
}

bool is_op(std::string_view name) {
  return std::any_of(std::begin(kOps), std::end(kOps), [&](const Op& op) { return name == op.name; });
}

bool is_order(std::string_view name) { return name == "forward" || name == "reverse" || name == "random"; }

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string_view name = arguments[i];
    const auto value = [&]() -> std::string {
      if (++i == count) refuse(arguments[0], std::string(name) + ": needs a value");
      return arguments[i];
    };
    if (name == "--only") {
      options.only = value();
      options.timings = false;
      if (!is_op(options.only)) refuse(arguments[0], "--only: must be an op of --list, not " + options.only);
    } else if (name == "--awkward") {
      options.real = false;
    } else if (name == "--real") {
      options.real = true;
      options.awkward = false;
    } else if (name == "--order") {
      const std::string order = value();
      if (!is_order(order)) refuse(arguments[0], "--order: must be forward, reverse or random, not " + order);
      setenv("CRIA_EMULATION_ORDER", order.c_str(), 1);  // which the emulation reads at its first launch
    } else if (name == "--no-timings") {
      options.timings = false;
    } else if (name == "--json") {
      options.json = value();
    } else if (name == "--list") {
      options.list = true;
    } else if (name == "--help") {
      std::printf(kUsage, arguments[0], arguments[0]);
      std::exit(0);
    } else {
      refuse(arguments[0], "there is no argument " + std::string(name));
    }
  }
  return options;
}

// Each op's checks draw the same numbers, whichever others run.
void run_checks(const Plugin& plugin, const Options& options, std::vector<Result>& results) {
  for (const bool real : {false, true}) {
    if (!(real ? options.real : options.awkward)) continue;
    for (const Op& op : kOps) {
      if (!options.only.empty() && options.only != op.name) continue;
      Checks checks(plugin, real);
      std::string failure;
      try {
        op.check(checks);
      } catch (const std::exception& error) {
        failure = error.what();
      }
      results.insert(results.end(), checks.results().begin(), checks.results().end());
      if (failure.empty()) continue;
      // What a kernel did wrong is reported by all calls after it, so there is nothing left to check with.
      std::printf("not ok %s %s\n", op.name, failure.c_str());
      results.push_back({op.name, failure, INFINITY, 0.0, false});
      return;
    }
  }
}

#ifdef CRIA_CHECK_GPU
// What ends the timings early ends no more than them.
bool timed(const Plugin& plugin, Report& report) {
  try {
    measure(plugin, report);
    return true;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "the timings ended early: %s\n", error.what());
    return false;
  }
}
#else
bool timed(const Plugin&, Report&) { return true; }
#endif

int run(const Options& options, int count, char** arguments) {
  Report report;
  report.command = command_line(count, arguments);
  // Before minutes of a GPU's time: with the reason in words where there is none, and a file that can be written.
  cria_device_info info{};
  info.struct_size = sizeof(info);
  cria_device_describe(kDevice, &info);
  if (!info.available) {
    std::fprintf(stderr, "no GPU: %s\n", info.reason);
    return kNoGpu;
  }
  if (!options.json.empty() && !write_json(report, options.json)) {
    std::fprintf(stderr, "--json: %s cannot be written\n", options.json.c_str());
    return kUsageError;
  }
  const Plugin& plugin = *cria_cuda_plugin();
  if (const Status status = plugin.open(&report.device); status != 0) {
    std::fprintf(stderr, "no GPU: %s\n", plugin.describe(status));
    return kNoGpu;
  }
  run_checks(plugin, options, report.checks);
  const bool whole = !options.timings || timed(plugin, report);
  print_summary(report);
  if (!options.json.empty()) write_json(report, options.json);
  return whole && all_passed(report) ? 0 : kFailed;
}

}  // namespace
}  // namespace cria::cuda::check

int main(int count, char** arguments) {
  using namespace cria::cuda::check;
  const Options options = parse(count, arguments);
  if (options.list) {
    for (const Op& op : kOps) std::printf("%s\n", op.name);
    return 0;
  }
  try {
    return run(options, count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return kFailed;
  }
}
