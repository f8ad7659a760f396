// What the bits of each format stand for (GGML's ggml-common.h and ggml-quants.c have the layouts).
//
//     type      weights                        where the quants of weight k are
//     q4_0      d (q - 8)                      nibble k, and k + 16 above it: of byte k % 16
//     q4_1      d q + m                        as q4_0
//     q5_0      d (q - 16)                     as q4_0, the fifth bit is bit k of a 32-bit word
//     q5_1      d q + m                        as q5_0
//     q8_0      d q                            byte k
//     iq4_nl    d value[q]                     as q4_0
//     q4_z      d q - d z                      as q4_0
//     q2_K      d s q - e m     per 16         bits 2 (k / 32 % 4) and up of byte k % 32, 32 bytes for each half of 256
//     q3_K      d (s - 32) (q - 4)  per 16     as q2_K; the third bit is bit k / 32 of byte k % 32
//     q4_K      d s q - e m     per 32         nibble k / 32 % 2 of byte k % 32, 32 bytes for each 64
//     q5_K      d s q - e m     per 32         as q4_K; the fifth bit is bit k / 32 of byte k % 32
//     q6_K      d s (q - 32)    per 16         nibble k / 64 % 2 of byte k % 64, 64 bytes for each half of 256;
//                                              the upper two bits as q2_K's
//
// d, e, m and z are binary16, z a whole number, s and m within a block of 256 small integers. All but the last product
// or sum of each is exact in float32 (11 bits of d, 6 or 8 of s, up to 6 of q), so that the order of the operations
// does not matter.
#include "decode.h"

#include <cstring>

#include "half.h"
#include "k_scales.h"
#include "weights.h"

namespace cria {
namespace {

float half_at(const std::uint8_t (&bytes)[2]) {
  return half_to_float(static_cast<std::uint16_t>(bytes[0] | bytes[1] << 8));
}

// Weight k's nibble in a block of 32.
int nibble_of(const std::uint8_t (&nibbles)[16], std::size_t k) { return nibbles[k % 16] >> k / 16 * 4 & 15; }

// And its fifth bit, at the place of one.
int fifth_of(const std::uint8_t (&fifths)[4], std::size_t k) { return (fifths[k / 8] >> k % 8 & 1) << 4; }

void decode(const Q4_0& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlock; ++k) out[k] = scale * static_cast<float>(nibble_of(block.nibbles, k) - 8);
}

void decode(const Q4_1& block, float* out) {
  const float scale = half_at(block.scale), least = half_at(block.least);
  for (std::size_t k = 0; k < kBlock; ++k) out[k] = scale * static_cast<float>(nibble_of(block.nibbles, k)) + least;
}

void decode(const Q5_0& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlock; ++k) {
    const int quant = nibble_of(block.nibbles, k) | fifth_of(block.fifths, k);
    out[k] = scale * static_cast<float>(quant - 16);
  }
}

void decode(const Q5_1& block, float* out) {
  const float scale = half_at(block.scale), least = half_at(block.least);
  for (std::size_t k = 0; k < kBlock; ++k) {
    const int quant = nibble_of(block.nibbles, k) | fifth_of(block.fifths, k);
    out[k] = scale * static_cast<float>(quant) + least;
  }
}

void decode(const Q8_0& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlock; ++k) out[k] = scale * static_cast<float>(block.quants[k]);
}

void decode(const IQ4_NL& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlock; ++k) {
    out[k] = scale * static_cast<float>(kIq4Values[nibble_of(block.nibbles, k)]);
  }
}

void decode(const Q4_Z& block, float* out) {
  const float scale = half_at(block.scale), lift = scale * half_at(block.zero);
  for (std::size_t k = 0; k < kBlock; ++k) out[k] = scale * static_cast<float>(nibble_of(block.nibbles, k)) - lift;
}

// Two bits of weight k of 256.
int pair_of(const std::uint8_t (&pairs)[64], std::size_t k) {
  return pairs[k / 128 * 32 + k % 32] >> k / 32 % 4 * 2 & 3;
}

// Bit k / 32 of a byte for each of 32 columns.
int bit_of(const std::uint8_t (&bits)[32], std::size_t k) { return bits[k % 32] >> k / 32 & 1; }

void decode(const Q2_K& block, float* out) {
  const float scale = half_at(block.scale), least = half_at(block.least);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const int scales = block.scales[k / 16];
    const float step = scale * static_cast<float>(scales & 15), minimum = least * static_cast<float>(scales >> 4);
    out[k] = step * static_cast<float>(pair_of(block.pairs, k)) - minimum;
  }
}

// The 6-bit scale of a group of 16: four bits in the first eight bytes, two in the last four.
int scale_of(const Q3_K& block, std::size_t group) {
  const int low = block.scales[group % 8] >> group / 8 * 4 & 15;
  const int high = block.scales[8 + group % 4] >> group / 4 * 2 & 3;
  return low | high << 4;
}

void decode(const Q3_K& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const float step = scale * static_cast<float>(scale_of(block, k / 16) - 32);
    out[k] = step * static_cast<float>((pair_of(block.pairs, k) | bit_of(block.thirds, k) << 2) - 4);
  }
}

// Nibble of weight k of 256, two groups of 32 sharing 32 bytes.
int nibble_of(const std::uint8_t (&nibbles)[128], std::size_t k) {
  return nibbles[k / 64 * 32 + k % 32] >> k / 32 % 2 * 4 & 15;
}

template <class Block, class Quant>
void decode_with_minimum(const Block& block, const Quant& quant, float* out) {
  const float scale = half_at(block.scale), least = half_at(block.least);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const ScaleAndMinimum scales = scales_of(block.scales, k / kBlock);
    const float step = scale * static_cast<float>(scales.scale), minimum = least * static_cast<float>(scales.minimum);
    out[k] = step * static_cast<float>(quant(k)) - minimum;
  }
}

void decode(const Q4_K& block, float* out) {
  decode_with_minimum(
      block, [&](std::size_t k) { return nibble_of(block.nibbles, k); }, out);
}

void decode(const Q5_K& block, float* out) {
  const auto quant = [&](std::size_t k) { return nibble_of(block.nibbles, k) | bit_of(block.fifths, k) << 4; };
  decode_with_minimum(block, quant, out);
}

void decode(const Q6_K& block, float* out) {
  const float scale = half_at(block.scale);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    const float step = scale * static_cast<float>(block.scales[k / 16]);
    const int low = block.nibbles[k / 128 * 64 + k % 64] >> k / 64 % 2 * 4 & 15;
    out[k] = step * static_cast<float>((low | pair_of(block.pairs, k) << 4) - 32);
  }
}

template <class Block>
void decode_blocks(std::size_t cols, const std::uint8_t* source, float* out) {
  constexpr std::size_t kWeights = sizeof(Block) > sizeof(Q8_0) ? kBlockK : kBlock;  // no block of 32 is larger
  for (std::size_t k = 0; k < cols; k += kWeights, source += sizeof(Block)) {
    Block block;
    std::memcpy(&block, source, sizeof block);
    decode(block, out + k);
  }
}

template <float (*widen)(std::uint16_t)>
void decode_halves(std::size_t cols, const std::uint8_t* source, float* out) {
  for (std::size_t k = 0; k < cols; ++k) {
    std::uint16_t bits;
    std::memcpy(&bits, source + k * sizeof bits, sizeof bits);
    out[k] = widen(bits);
  }
}

}  // namespace

void decode_row(cria_type type, std::size_t cols, const std::uint8_t* source, float* out) {
  switch (type) {
    case CRIA_TYPE_F32:
      std::memcpy(out, source, cols * sizeof(float));
      return;
    case CRIA_TYPE_F16:
      return decode_halves<half_to_float>(cols, source, out);
    case CRIA_TYPE_BF16:
      return decode_halves<bf16_to_float>(cols, source, out);
    case CRIA_TYPE_Q4_0:
      return decode_blocks<Q4_0>(cols, source, out);
    case CRIA_TYPE_Q4_1:
      return decode_blocks<Q4_1>(cols, source, out);
    case CRIA_TYPE_Q5_0:
      return decode_blocks<Q5_0>(cols, source, out);
    case CRIA_TYPE_Q5_1:
      return decode_blocks<Q5_1>(cols, source, out);
    case CRIA_TYPE_Q8_0:
      return decode_blocks<Q8_0>(cols, source, out);
    case CRIA_TYPE_Q2_K:
      return decode_blocks<Q2_K>(cols, source, out);
    case CRIA_TYPE_Q3_K:
      return decode_blocks<Q3_K>(cols, source, out);
    case CRIA_TYPE_Q4_K:
      return decode_blocks<Q4_K>(cols, source, out);
    case CRIA_TYPE_Q5_K:
      return decode_blocks<Q5_K>(cols, source, out);
    case CRIA_TYPE_Q6_K:
      return decode_blocks<Q6_K>(cols, source, out);
    case CRIA_TYPE_IQ4_NL:
      return decode_blocks<IQ4_NL>(cols, source, out);
    case CRIA_TYPE_Q4_Z:
      return decode_blocks<Q4_Z>(cols, source, out);
  }
}

}  // namespace cria
