#include "rope.h"

#include <algorithm>
#include <cmath>

#include "error.h"

namespace cria {

RopeAngles rope_angles(const cria_rope_options& options) {
  const std::size_t pairs = options.rotary_dim / 2;
  RopeAngles angles{{}, options.magnitude == 0 ? 1.0 : options.magnitude};
  if (options.frequencies != nullptr) {
    angles.frequencies.assign(options.frequencies, options.frequencies + pairs);
    return angles;
  }
  const auto rotary_dim = static_cast<double>(options.rotary_dim);
  for (std::size_t i = 0; i < pairs; ++i) {
    angles.frequencies.push_back(std::pow(options.theta, -2.0 * static_cast<double>(i) / rotary_dim) / options.scale);
  }
  return angles;
}

namespace {

// Far above any that is of use: what is multiplied by these stays finite.
constexpr double kMostFrequency = 0x1p64, kMostMagnitude = 0x1p16;

}  // namespace

void check_rotation(const cria_rope_options& options, std::size_t head_dim, const std::string& name) {
  const auto check = [&](bool ok, const std::string& field, const std::string& expected, auto actual) {
    require(ok, (name + "." + field).c_str(), expected, actual);
  };
  check(options.rotary_dim >= 2 && options.rotary_dim % 2 == 0 && options.rotary_dim <= head_dim, "rotary_dim",
        "even, from 2 to head_dim " + std::to_string(head_dim), options.rotary_dim);
  check(options.halves == 0 || options.halves == 1, "halves", "0 or 1", options.halves);
  check(options.magnitude >= 0 && options.magnitude <= kMostMagnitude, "magnitude", "from 0 to 65536",
        options.magnitude);
  if (options.frequencies == nullptr) {
    check(std::isfinite(options.theta) && options.theta > 0, "theta", "above 0", options.theta);
    check(std::isfinite(options.scale) && options.scale > 0, "scale", "above 0", options.scale);
    const std::vector<double> frequencies = rope_angles(options).frequencies;
    const double most = *std::max_element(frequencies.begin(), frequencies.end());
    check(most <= kMostFrequency, "theta", "one of frequencies of at most 2^64 with that scale", options.theta);
    return;
  }
  for (std::size_t i = 0; i < options.rotary_dim / 2; ++i) {
    const double frequency = options.frequencies[i];
    check(frequency >= 0 && frequency <= kMostFrequency, "frequencies[" + std::to_string(i) + "]", "from 0 to 2^64",
          frequency);
  }
}

}  // namespace cria
