// The blocks of each format (decode.cc has what their bits stand for), with the scales that encode_search.h finds.
#include "encode.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cstring>
#include <string>

#include "encode_search.h"
#include "error.h"
#include "half.h"
#include "k_scales.h"
#include "weights.h"

namespace cria {
namespace {

constexpr float kLargestHalf = 65504;

// Writes it as binary16, and returns what was written. No zero has a sign (-0 + 0 is 0), and nothing becomes infinite:
// a regression's line may begin beyond the weights.
float put_half(float value, std::uint8_t (&out)[2]) {
  const std::uint16_t half = float_to_half(std::clamp(value, -kLargestHalf, kLargestHalf) + 0.0f);
  out[0] = static_cast<std::uint8_t>(half);
  out[1] = static_cast<std::uint8_t>(half >> 8);
  return half_to_float(half);
}

// The same of a step between weights. One so small that binary16 has none for it becomes the least that there is: a few
// coarse steps are nearer than no weights at all.
constexpr float kLeastHalf = 0x1p-24f;
float put_step(float value, std::uint8_t (&out)[2]) {
  return put_half(value != 0 && std::fabs(value) < kLeastHalf ? std::copysign(kLeastHalf, value) : value, out);
}

// Blocks of 32.

void put_nibbles(const int* quants, std::uint8_t (&out)[16]) {
  for (std::size_t k = 0; k < 16; ++k) {
    out[k] = static_cast<std::uint8_t>((quants[k] & 15) | (quants[k + 16] & 15) << 4);
  }
}

void put_fifths(const int* quants, std::uint8_t (&out)[4]) {
  std::uint32_t bits = 0;
  for (std::size_t k = 0; k < kBlock; ++k) bits |= static_cast<std::uint32_t>(quants[k] >> 4 & 1) << k;
  for (int i = 0; i < 4; ++i) out[i] = static_cast<std::uint8_t>(bits >> 8 * i);
}

// Quants from -8 or -16 on, moved up to begin at zero.
template <class Block>
void encode_centred(const float* x, int half, Block& block, int (&quants)[kBlock]) {
  const Range range = {static_cast<float>(-half), static_cast<float>(half - 1)};
  const float scale = put_step(fit_scale<kBlock>(x, range.low, 0.1f, Uniform{range}), block.scale);
  put_quants<kBlock>(x, {scale, 0}, range, quants);
  for (int& quant : quants) quant += half;
  put_nibbles(quants, block.nibbles);
}

void encode(const float* x, Q4_0& block) {
  int quants[kBlock];
  encode_centred(x, 8, block, quants);
}

void encode(const float* x, Q5_0& block) {
  int quants[kBlock];
  encode_centred(x, 16, block, quants);
  put_fifths(quants, block.fifths);
}

// As q4_0: weights lie about 0 as often above as below.
void encode(const float* x, Q4_Z& block) {
  int quants[kBlock];
  encode_centred(x, 8, block, quants);
  put_half(8, block.zero);
}

template <class Block>
void encode_line(const float* x, const LineSearch& search, Block& block, int (&quants)[kBlock]) {
  const Line fitted = fit_line<kBlock>(x, search);
  const float scale = put_step(fitted.scale, block.scale);
  const float least = put_half(-fitted.minimum, block.least);
  put_quants<kBlock>(x, {scale, -least}, search.range, quants);
  put_nibbles(quants, block.nibbles);
}

void encode(const float* x, Q4_1& block) {
  int quants[kBlock];
  encode_line(x, {{0, 15}, -1.0f, 21, /*below_zero=*/false}, block, quants);
}

void encode(const float* x, Q5_1& block) {
  int quants[kBlock];
  encode_line(x, {{0, 31}, -0.5f, 16, /*below_zero=*/false}, block, quants);
  put_fifths(quants, block.fifths);
}

// No search: with 8 bits the nearest scale gains less than a thousandth of the error.
void encode(const float* x, Q8_0& block) {
  const float scale = put_step(std::fabs(extreme_of<kBlock>(x)) / 127, block.scale);
  int quants[kBlock];
  put_quants<kBlock>(x, {scale, 0}, {-127, 127}, quants);
  for (std::size_t k = 0; k < kBlock; ++k) block.quants[k] = static_cast<std::int8_t>(quants[k]);
}

void encode(const float* x, IQ4_NL& block) {
  // Among the values is no 0: where even the least step is more than any weight, none is nearest.
  const bool none = std::fabs(extreme_of<kBlock>(x)) < kLeastHalf;
  const float scale = put_step(none ? 0 : fit_scale<kBlock>(x, kIq4Values[0], 1, Iq4Steps{}), block.scale);
  const float inverse = scale == 0 ? 0 : 1 / scale;
  int quants[kBlock];
  for (std::size_t k = 0; k < kBlock; k += kLanes) {
    const Lanes values = Iq4Steps{}(load(x + k), inverse);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const auto* place = std::find(kIq4Values, kIq4Values + 15, static_cast<std::int8_t>(values[lane]));
      quants[k + lane] = static_cast<int>(place - kIq4Values);
    }
  }
  put_nibbles(quants, block.nibbles);
}

// Blocks of 256: groups of N weights, whose scales, and minima, are whole numbers times one of the block's.

using Whole = ScaleAndMinimum;

int whole(float value, float step, int low, int high) {
  return step == 0 ? 0
                   : static_cast<int>(
                         std::lrint(std::clamp(value / step, static_cast<float>(low), static_cast<float>(high))));
}

Line line_of(Whole whole, float step, float minimum_step) {
  return {step * static_cast<float>(whole.scale), minimum_step * static_cast<float>(whole.minimum)};
}

// The whole scale of a group, from `low` to `high`: the nearest to what was found, or one beside it where that, with
// the minimum that suits it, leaves less of an error.
template <std::size_t N>
Whole fit_whole(const float* x, Line found, float step, float minimum_step, Range range, Whole low, Whole high) {
  const int near = whole(found.scale, step, low.scale, high.scale);
  Whole best = {near, 0};
  float best_error = INFINITY;
  for (const int scale : {near, near - 1, near + 1}) {
    if (scale < low.scale || scale > high.scale) continue;
    Whole tried = {scale, whole(found.minimum, minimum_step, 0, high.minimum)};
    if (minimum_step != 0) {
      const float minimum = refit_minimum<N>(x, line_of(tried, step, minimum_step), range);
      tried.minimum = whole(minimum, minimum_step, 0, high.minimum);
    }
    const float error = error_of<N>(x, line_of(tried, step, minimum_step), range);
    if (!(error < best_error)) continue;
    best_error = error;
    best = tried;
  }
  return best;
}

// A block whose groups have minima: the largest scale and the largest minimum are the highest whole numbers.
template <std::size_t N, class Block>
void encode_lines(const float* x, const LineSearch& search, int highest, Block& block, Whole (&wholes)[kBlockK / N],
                  int (&quants)[kBlockK]) {
  Line lines[kBlockK / N], most = {0, 0};
  for (std::size_t group = 0; group < kBlockK / N; ++group) {
    lines[group] = fit_line<N>(x + group * N, search);
    most = {std::max(most.scale, lines[group].scale), std::max(most.minimum, lines[group].minimum)};
  }
  const float step = put_step(most.scale / static_cast<float>(highest), block.scale);
  const float minimum_step = put_step(most.minimum / static_cast<float>(highest), block.least);
  for (std::size_t group = 0; group < kBlockK / N; ++group) {
    const float* weights = x + group * N;
    wholes[group] = fit_whole<N>(weights, lines[group], step, minimum_step, search.range, {0, 0}, {highest, highest});
    put_quants<N>(weights, line_of(wholes[group], step, minimum_step), search.range, quants + group * N);
  }
}

// A block whose groups have scales of either sign: the largest, of 16 weights, becomes `lowest`, below zero. The quants
// are from -half to half - 1, moved up to begin at zero.
template <class Block>
void encode_scales(const float* x, int half, int lowest, Block& block, int (&scales)[16], int (&quants)[kBlockK]) {
  const Range range = {static_cast<float>(-half), static_cast<float>(half - 1)};
  float found[16];
  for (std::size_t group = 0; group < 16; ++group) {
    found[group] = fit_scale<16>(x + group * 16, range.low, 0.1f, Uniform{range});
  }
  const float step = put_step(extreme_of<16>(found) / static_cast<float>(lowest), block.scale);
  for (std::size_t group = 0; group < 16; ++group) {
    const float* weights = x + group * 16;
    const Whole fitted = fit_whole<16>(weights, {found[group], 0}, step, 0, range, {lowest, 0}, {-lowest - 1, 0});
    scales[group] = fitted.scale;
    put_quants<16>(weights, line_of(fitted, step, 0), range, quants + group * 16);
  }
  for (int& quant : quants) quant += half;
}

// Two bits from `shift` on of each quant.
void put_pairs(const int* quants, int shift, std::uint8_t (&out)[64]) {
  std::memset(out, 0, sizeof out);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    out[k / 128 * 32 + k % 32] |= static_cast<std::uint8_t>((quants[k] >> shift & 3) << k / 32 % 4 * 2);
  }
}

// Bit `bit` of each quant.
void put_bits(const int* quants, int bit, std::uint8_t (&out)[32]) {
  std::memset(out, 0, sizeof out);
  for (std::size_t k = 0; k < kBlockK; ++k) out[k % 32] |= static_cast<std::uint8_t>((quants[k] >> bit & 1) << k / 32);
}

// The lower four bits of each quant: two runs of `run` weights share as many bytes.
void put_nibbles(const int* quants, std::size_t run, std::uint8_t (&out)[128]) {
  std::memset(out, 0, sizeof out);
  for (std::size_t k = 0; k < kBlockK; ++k) {
    out[k / (2 * run) * run + k % run] |= static_cast<std::uint8_t>((quants[k] & 15) << k / run % 2 * 4);
  }
}

void encode(const float* x, Q2_K& block) {
  Whole wholes[16];
  int quants[kBlockK];
  encode_lines<16>(x, {{0, 3}, -0.5f, 16, /*below_zero=*/true}, 15, block, wholes, quants);
  for (std::size_t group = 0; group < 16; ++group) {
    block.scales[group] = static_cast<std::uint8_t>(wholes[group].scale | wholes[group].minimum << 4);
  }
  put_pairs(quants, 0, block.pairs);
}

void encode(const float* x, Q3_K& block) {
  int scales[16], quants[kBlockK];
  encode_scales(x, 4, -32, block, scales, quants);
  std::memset(block.scales, 0, sizeof block.scales);
  for (std::size_t group = 0; group < 16; ++group) {
    const int scale = scales[group] + 32;
    block.scales[group % 8] |= static_cast<std::uint8_t>((scale & 15) << group / 8 * 4);
    block.scales[8 + group % 4] |= static_cast<std::uint8_t>(scale >> 4 << group / 4 * 2);
  }
  put_pairs(quants, 0, block.pairs);
  put_bits(quants, 2, block.thirds);
}

template <class Block>
void encode_line_groups(const float* x, const LineSearch& search, Block& block, int (&quants)[kBlockK]) {
  Whole wholes[8];
  encode_lines<kBlock>(x, search, 63, block, wholes, quants);
  put_scales(wholes, block.scales);
  put_nibbles(quants, 32, block.nibbles);
}

void encode(const float* x, Q4_K& block) {
  int quants[kBlockK];
  encode_line_groups(x, {{0, 15}, -1.0f, 21, /*below_zero=*/true}, block, quants);
}

void encode(const float* x, Q5_K& block) {
  int quants[kBlockK];
  encode_line_groups(x, {{0, 31}, -0.5f, 16, /*below_zero=*/true}, block, quants);
  put_bits(quants, 4, block.fifths);
}

void encode(const float* x, Q6_K& block) {
  int scales[16], quants[kBlockK];
  encode_scales(x, 32, -128, block, scales, quants);
  for (std::size_t group = 0; group < 16; ++group) block.scales[group] = static_cast<std::int8_t>(scales[group]);
  put_nibbles(quants, 64, block.nibbles);
  put_pairs(quants, 4, block.pairs);
}

template <class Block>
void encode_blocks(std::size_t cols, const float* x, std::uint8_t* out) {
  constexpr std::size_t kWeights = sizeof(Block) > sizeof(Q8_0) ? kBlockK : kBlock;  // no block of 32 is larger
  for (std::size_t k = 0; k < cols; k += kWeights, out += sizeof(Block)) {
    Block block;
    encode(x + k, block);
    std::memcpy(out, &block, sizeof block);
  }
}

std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

template <std::uint16_t (*narrow)(float)>
void encode_halves(std::size_t cols, const float* x, std::uint8_t* out) {
  for (std::size_t k = 0; k < cols; ++k) {
    const std::uint16_t bits = narrow(x[k]);
    std::memcpy(out + k * sizeof bits, &bits, sizeof bits);
  }
}

float largest_of(cria_type type) {
  if (type == CRIA_TYPE_F32) return FLT_MAX;
  if (type == CRIA_TYPE_BF16) return 0x1.fep127f;
  return kLargestHalf;
}

}  // namespace

void require_fit(cria_type type, std::size_t row, std::size_t cols, const float* x) {
  const float largest = largest_of(type);
  bool fits = true;
  for (std::size_t k = 0; k < cols; ++k) fits &= std::fabs(x[k]) <= largest;  // false of NaN
  if (fits) return;
  const float* first = std::find_if(x, x + cols, [&](float value) { return !(std::fabs(value) <= largest); });
  throw Error(CRIA_ERROR_NUMBERS, "row " + std::to_string(row) + ", column " + std::to_string(first - x) +
                                      ": must be a number of at most " + show(largest) + " in " +
                                      weight_format(type).name + ", not " + show(*first));
}

void encode_row(cria_type type, std::size_t cols, const float* x, std::uint8_t* out) {
  switch (type) {
    case CRIA_TYPE_F32:
      std::memcpy(out, x, cols * sizeof(float));
      return;
    case CRIA_TYPE_F16:
      return encode_halves<float_to_half>(cols, x, out);
    case CRIA_TYPE_BF16:
      return encode_halves<float_to_bf16>(cols, x, out);
    case CRIA_TYPE_Q4_0:
      return encode_blocks<Q4_0>(cols, x, out);
    case CRIA_TYPE_Q4_1:
      return encode_blocks<Q4_1>(cols, x, out);
    case CRIA_TYPE_Q5_0:
      return encode_blocks<Q5_0>(cols, x, out);
    case CRIA_TYPE_Q5_1:
      return encode_blocks<Q5_1>(cols, x, out);
    case CRIA_TYPE_Q8_0:
      return encode_blocks<Q8_0>(cols, x, out);
    case CRIA_TYPE_Q2_K:
      return encode_blocks<Q2_K>(cols, x, out);
    case CRIA_TYPE_Q3_K:
      return encode_blocks<Q3_K>(cols, x, out);
    case CRIA_TYPE_Q4_K:
      return encode_blocks<Q4_K>(cols, x, out);
    case CRIA_TYPE_Q5_K:
      return encode_blocks<Q5_K>(cols, x, out);
    case CRIA_TYPE_Q6_K:
      return encode_blocks<Q6_K>(cols, x, out);
    case CRIA_TYPE_IQ4_NL:
      return encode_blocks<IQ4_NL>(cols, x, out);
    case CRIA_TYPE_Q4_Z:
      return encode_blocks<Q4_Z>(cols, x, out);
  }
}

}  // namespace cria
