#include "checks.h"

#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace cria::cuda::check {

Checks::Checks(const Plugin& plugin, bool real_shapes) : plugin(plugin), real_shapes(real_shapes) {
  require(plugin.create_stream(&stream), "create_stream");
}

Checks::~Checks() { plugin.destroy_stream(stream); }

void Checks::require(Status status, const char* what) const {
  if (status != 0) throw std::runtime_error(std::string(what) + ": " + plugin.describe(status));
}

void Checks::add(Result result) {
  std::printf("%s %s %s (error %.3g of %.3g)\n", result.passed ? "ok" : "not ok", result.op.c_str(),
              result.shape.c_str(), result.error, result.tolerance);
  std::fflush(stdout);
  results_.push_back(std::move(result));
}

void Checks::same_bits(const std::string& op, const std::string& shape, const void* expected, const void* actual,
                       std::size_t bytes) {
  const bool same = bytes == 0 || std::memcmp(expected, actual, bytes) == 0;
  add({op, shape, same ? 0.0 : 1.0, 0.0, same});
}

void Checks::close(const std::string& op, const std::string& shape, std::span<const float> expected,
                   std::span<const float> actual, double tolerance) {
  double largest = 0.0, difference = 0.0;
  bool numbers = expected.size() == actual.size();
  for (std::size_t i = 0; numbers && i < expected.size(); ++i) {
    numbers = std::isfinite(expected[i]) && std::isfinite(actual[i]);
    largest = std::fmax(largest, std::fabs(expected[i]));
    difference = std::fmax(difference, std::fabs(static_cast<double>(expected[i]) - actual[i]));
  }
  const double error = !numbers ? INFINITY : difference == 0.0 ? 0.0 : difference / largest;
  add({op, shape, error, tolerance, error <= tolerance});
}

std::vector<float> Checks::normal(std::size_t count, float deviation) {
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(random);
  return values;
}

}  // namespace cria::cuda::check
