// The weight formats that files hold and kernels multiply by: sizes and byte layouts of GGML's blocks (ggml-common.h).
// decode.cc says what the bits of each stand for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../cria.h"

namespace cria {

// Elements of one row that share a scale in the quantised formats, and a block of activations.
constexpr std::size_t kBlock = 32;

// Elements of one row in a block of the formats that have scales of scales, in GGML's words the K-quants.
constexpr std::size_t kBlockK = 256;

// Numbers of two bytes in these structs are binary16, little-endian.

struct Q4_0 {
  std::uint8_t scale[2];
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q4_0) == 18);

struct Q4_1 {
  std::uint8_t scale[2], least[2];
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q4_1) == 20);

struct Q5_0 {
  std::uint8_t scale[2];
  std::uint8_t fifths[4];  // the fifth bits, one for each weight
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q5_0) == 22);

struct Q5_1 {
  std::uint8_t scale[2], least[2];
  std::uint8_t fifths[4];
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q5_1) == 24);

struct Q8_0 {
  std::uint8_t scale[2];
  std::int8_t quants[32];
};
static_assert(sizeof(Q8_0) == 34);

struct IQ4_NL {
  std::uint8_t scale[2];
  std::uint8_t nibbles[16];  // places in kIq4Values
};
static_assert(sizeof(IQ4_NL) == 18);

// cria's own, of which GGML knows nothing: what GPTQ and AWQ have for a group of weights, for each 32 of them.
struct Q4_Z {
  std::uint8_t scale[2], zero[2];  // the zero, a whole number, is binary16 as well: vectors widen both in one go
  std::uint8_t nibbles[16];
};
static_assert(sizeof(Q4_Z) == 20);

struct Q2_K {
  std::uint8_t scales[16];  // of 16 weights each: the scale's 4 bits, above them the minimum's
  std::uint8_t pairs[64];   // two bits a weight
  std::uint8_t scale[2], least[2];
};
static_assert(sizeof(Q2_K) == 84);

struct Q3_K {
  std::uint8_t thirds[32];  // the third bits
  std::uint8_t pairs[64];   // the other two
  std::uint8_t scales[12];  // 6 bits for 16 weights
  std::uint8_t scale[2];
};
static_assert(sizeof(Q3_K) == 110);

struct Q4_K {
  std::uint8_t scale[2], least[2];
  std::uint8_t scales[12];  // 6 bits of scale and 6 of minimum for 32 weights
  std::uint8_t nibbles[128];
};
static_assert(sizeof(Q4_K) == 144);

struct Q5_K {
  std::uint8_t scale[2], least[2];
  std::uint8_t scales[12];
  std::uint8_t fifths[32];
  std::uint8_t nibbles[128];
};
static_assert(sizeof(Q5_K) == 176);

struct Q6_K {
  std::uint8_t nibbles[128];
  std::uint8_t pairs[64];  // the fifth and sixth bits
  std::int8_t scales[16];  // of 16 weights each
  std::uint8_t scale[2];
};
static_assert(sizeof(Q6_K) == 210);

// What the nibbles of an IQ4_NL block stand for: values that lie denser around zero, as weights do.
constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

struct WeightFormat {
  const char* name;
  std::size_t block;        // weights that a block holds; a row is a whole number of blocks
  std::size_t block_bytes;  // bytes of a block in a file
};

// Throws CRIA_ERROR_ARGUMENT for an unknown type.
const WeightFormat& weight_format(cria_type type);

// Whether products take quantised activations.
static inline bool is_quantised(cria_type type) {
  return type != CRIA_TYPE_F32 && type != CRIA_TYPE_F16 && type != CRIA_TYPE_BF16;
}

// Bytes that one row of `cols` weights takes in a file. Throws where `cols` is not a whole number of blocks.
std::size_t row_bytes(cria_type type, std::size_t cols);

}  // namespace cria
