#include "random.h"

#include <cstddef>
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

// Standard deviation of [-1, 1).
constexpr float kUnitDeviation = 0.57735f;

// A quantised format's blocks of random bits: where the scale and, if there is one, the minimum stand, how many scales
// the minimum is for the mean to be 0, and the standard deviation of the weights where the scale is 1. Quants and the
// integers of the K-quants are equally likely values.
struct RandomBlock {
  std::size_t scale_at, least_at;  // no minimum: the same
  float least, deviation;
  bool zero = false;  // `least` is a zero, which is not in units of the scale
};
constexpr RandomBlock random_block(cria_type type) {
  switch (type) {
    case CRIA_TYPE_Q4_0:
      return {0, 0, 0.0f, 4.6098f};
    case CRIA_TYPE_Q4_1:
      return {0, 2, -7.5f, 4.6098f};
    case CRIA_TYPE_Q4_Z:
      return {0, 2, 8.0f, 4.6098f, true};
    case CRIA_TYPE_Q5_0:
      return {0, 0, 0.0f, 9.2331f};
    case CRIA_TYPE_Q5_1:
      return {0, 2, -15.5f, 9.2331f};
    case CRIA_TYPE_IQ4_NL:
      return {0, 0, 0.0f, 67.2f};
    case CRIA_TYPE_Q2_K:
      return {offsetof(Q2_K, scale), offsetof(Q2_K, least), 1.5f, 13.9f};
    case CRIA_TYPE_Q3_K:
      return {offsetof(Q3_K, scale), offsetof(Q3_K, scale), 0.0f, 43.3f};
    case CRIA_TYPE_Q4_K:
      return {0, 2, 7.5f, 258.0f};
    case CRIA_TYPE_Q5_K:
      return {0, 2, 15.5f, 527.0f};
    case CRIA_TYPE_Q6_K:
      return {offsetof(Q6_K, scale), offsetof(Q6_K, scale), 0.0f, 1366.0f};
    default:
      return {0, 0, 0.0f, 73.9f};  // q8_0
  }
}

void put_half(std::uint8_t* to, float value) {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(to, &half, sizeof half);
}

void random_blocks(SplitMix& random, cria_type type, std::size_t cols, float deviation, std::uint8_t* out) {
  const auto [name, weights, bytes] = weight_format(type);
  const RandomBlock block = random_block(type);
  const float scale = deviation / block.deviation;
  random.fill(out, cols / weights * bytes);
  for (std::size_t b = 0; b < cols / weights; ++b, out += bytes) {
    put_half(out + block.least_at, block.zero ? block.least : block.least * scale);
    put_half(out + block.scale_at, scale);
  }
}

}  // namespace

void random_row(cria_type type, std::size_t cols, std::uint64_t seed, std::size_t row, float deviation,
                std::uint8_t* out) {
  SplitMix random(SplitMix(seed ^ SplitMix(row).next()).next());
  if (is_quantised(type)) return random_blocks(random, type, cols, deviation, out);
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
