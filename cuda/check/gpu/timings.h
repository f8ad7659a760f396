// How fast a GPU runs the kernels and whole models, each beside what its limits, measured first, allow.
#pragma once

#include "../checks.h"
#include "../report.h"

namespace cria::cuda::check {

// Fills report.limits, report.cuda and report.timings, printing each as it comes.
void measure(const Plugin& plugin, Report& report);

// What one launch, or one step, must move and do at the least.
struct Work {
  double bytes, operations;
};

// Seconds that it takes where memory or the tensor cores, at bf16, are the limit.
double least_seconds(const Work& work, const Limits& limits);

// Its parts: the limits, the kernels one by one, and tokens a second of models (throughput.cc).
Limits measure_limits(Checks& checks, int multiprocessors, bool wgmma);
void time_kernels(Checks& checks, Report& report);
void time_models(Report& report);

}  // namespace cria::cuda::check
