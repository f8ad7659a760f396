// What a run of the checks found, for people and, in the form that bench/ reads (bench/schema.ts), as JSON.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "../plugin.h"
#include "checks.h"

namespace cria::cuda::check {

// Measured at the beginning of the timings: what shares are of. In bytes and operations a second.
struct Limits {
  double read = 0.0, copy = 0.0;  // copy: bytes read plus bytes written
  double bf16 = 0.0, int8 = 0.0;  // of the tensor cores, dense; a multiply-add is two operations
  std::string instruction;        // that they were measured with: "wgmma" or "mma.sync"
};

struct Timing {
  std::string name;  // "op/shape/tokens", or "prefill", "decode"
  std::vector<std::pair<std::string, std::string>> at;
  double micros;     // the median, of one launch or step
  double value;      // in `unit`, as is the limit
  std::string unit;  // "GB/s", "GOP/s", "GFLOP/s" or "tok/s"
  double limit;      // 0: none
  double spread;     // (90th percentile - 10th) / median
  int samples;
  double bytes, operations;  // that one launch or step must move and do, at the least
  std::string model;         // how the limit follows from those
};

struct Report {
  std::string command;
  DeviceFacts device{};
  std::string cuda;  // versions of the runtime and of the driver
  Limits limits;
  std::vector<Result> checks;
  std::vector<Timing> timings;
};

std::string command_line(int count, char** arguments);
bool all_passed(const Report& report);  // false, too, where nothing was checked
void print_timing(const Timing& timing);
void print_summary(const Report& report);
bool write_json(const Report& report, const std::string& path);

}  // namespace cria::cuda::check
