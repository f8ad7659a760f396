#include <cmath>

#include "rope.h"

namespace cria::cpu {
namespace {

void fill_row(std::int32_t position, const std::vector<double>& frequencies, double magnitude, float* cosine,
              float* sine) {
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const double angle = position * frequencies[i];
    cosine[i] = static_cast<float>(std::cos(angle) * magnitude);
    sine[i] = static_cast<float>(std::sin(angle) * magnitude);
  }
}

}  // namespace

void rope_table(std::span<const std::int32_t> positions, const RopeAngles& angles, float* cosine, float* sine) {
  const std::size_t pairs = angles.pairs();
  for (std::size_t t = 0; t < positions.size(); ++t) {
    fill_row(positions[t], angles.frequencies, angles.magnitude, cosine + t * pairs, sine + t * pairs);
  }
}

void rope_shift(std::int32_t shift, const RopeAngles& angles, float* cosine, float* sine) {
  fill_row(shift, angles.frequencies, 1.0, cosine, sine);
}

}  // namespace cria::cpu
