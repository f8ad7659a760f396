#include <cmath>

#include "rope.h"

namespace cria::cpu {

double rope_frequency(double theta, double scale, std::size_t i, std::size_t rotary_dim) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)) / scale;
}

void rope_table(const std::int32_t* positions, std::size_t count, std::size_t rotary_dim, double theta, double scale,
                float* cosine, float* sine) {
  const std::size_t pairs = rotary_dim / 2;
  // Pairs outside, positions inside: each frequency's power is taken once, and no list of them is kept.
  for (std::size_t i = 0; i < pairs; ++i) {
    const double frequency = rope_frequency(theta, scale, i, rotary_dim);
    for (std::size_t t = 0; t < count; ++t) {
      const double angle = positions[t] * frequency;
      cosine[t * pairs + i] = static_cast<float>(std::cos(angle));
      sine[t * pairs + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace cria::cpu
