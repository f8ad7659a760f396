#include "random.h"

#include <cstring>

#include "half.h"
#include "weights.h"

namespace cria {
namespace {

// SplitMix64 (Steele, Lea and Flood 2014): a counter and a mixer, so every row can start anywhere.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }

  // Uniform in [-1, 1).
  float signed_unit() { return static_cast<float>(static_cast<std::int64_t>(next()) >> 40) * 0x1p-23f; }

  void fill(void* out, std::size_t bytes) {
    for (auto* to = static_cast<char*>(out); bytes > 0;) {
      const std::uint64_t bits = next();
      const std::size_t part = bytes < sizeof(bits) ? bytes : sizeof(bits);
      std::memcpy(to, &bits, part);
      to += part;
      bytes -= part;
    }
  }

 private:
  std::uint64_t state_;
};

// Standard deviations of what the random bits stand for: 16 equally likely values, 256 of them, and [-1, 1).
constexpr float kNibbleDeviation = 4.6098f, kByteDeviation = 73.9f, kUnitDeviation = 0.57735f;

template <class Block>
void random_blocks(SplitMix& random, std::size_t cols, float scale, std::uint8_t* out) {
  random.fill(out, cols / kBlock * sizeof(Block));
  const std::uint16_t half = float_to_half(scale);
  for (std::size_t b = 0; b < cols / kBlock; ++b) std::memcpy(out + b * sizeof(Block), &half, sizeof(half));
}

}  // namespace

void random_row(cria_type type, std::size_t cols, std::uint64_t seed, std::size_t row, float deviation,
                std::uint8_t* out) {
  SplitMix random(SplitMix(seed ^ SplitMix(row).next()).next());
  if (type == CRIA_TYPE_Q4_0) return random_blocks<Q4_0>(random, cols, deviation / kNibbleDeviation, out);
  if (type == CRIA_TYPE_Q8_0) return random_blocks<Q8_0>(random, cols, deviation / kByteDeviation, out);
  for (std::size_t c = 0; c < cols; ++c) {
    const float value = random.signed_unit() * (deviation / kUnitDeviation);
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const std::uint16_t half = type == CRIA_TYPE_F16
                                   ? float_to_half(value)
                                   : static_cast<std::uint16_t>(bits >> 16);  // bf16: cut, not rounded
    if (type == CRIA_TYPE_F32) {
      std::memcpy(out + c * sizeof(bits), &bits, sizeof(bits));
    } else {
      std::memcpy(out + c * sizeof(half), &half, sizeof(half));
    }
  }
}

}  // namespace cria
