// A file has the weights of one input, or of eight, for all outputs side by side; a row has those of all inputs for one
// output. So this is a transposition, of 16 outputs by 32 inputs at a time: 16 outputs of an int32 are a cache line.
//
//     GPTQ            outputs ->                    AWQ           outputs / 8 ->
//     inputs / 8   | w | w | w | ...                inputs     | w | w | w | ...
//                    nibble k: input 8r + k                      nibble i: output 8c + {0, 2, 4, 6, 1, 3, 5, 7}[i]
//
// Bound by arithmetic, of which the transposition of bytes is the most: SSE2, which every x86-64 has, does it 16 by 16.
#include "int4.h"

#include <emmintrin.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"
#include "half.h"
#include "weights.h"

namespace cria {
namespace {

// Where an int32 has the nibble of output c of eight.
constexpr int kInOrder[8] = {0, 4, 8, 12, 16, 20, 24, 28};
constexpr int kAwqOrder[8] = {0, 16, 4, 20, 8, 24, 12, 28};

constexpr std::size_t kStrip = 16;  // outputs at a time

using Strip = std::uint8_t[kBlock][kStrip];

std::uint8_t nibble(std::int32_t word, int shift) {
  return static_cast<std::uint8_t>(static_cast<std::uint32_t>(word) >> shift & 15);
}

// A nibble of `bits` for each 16 bits, the lowest four first.
std::uint64_t every_second(std::uint32_t bits) {
  std::uint64_t x = bits & 0xffff;
  x = (x | x << 24) & 0x000000ff000000ff;
  return (x | x << 12) & 0x000f000f000f000f;
}

// The eight nibbles of AWQ's int32, a byte each, in the order of the outputs.
std::uint64_t awq_nibbles(std::int32_t word) {
  const auto bits = static_cast<std::uint32_t>(word);
  return every_second(bits) | every_second(bits >> 16) << 8;
}

// One nibble for each of `count` outputs, from a row of the int32s of eight outputs.
void nibbles_of(const std::int32_t* words, const int (&order)[8], std::size_t first, std::size_t count,
                std::uint8_t* out) {
  for (std::size_t r = 0; r < count; ++r) out[r] = nibble(words[(first + r) / 8], order[(first + r) % 8]);
}

// Row r of 16 x 16 bytes becomes column r: four times, the first half of the rows is interleaved with the second.
void transpose(__m128i (&rows)[kStrip]) {
  for (int step = 0; step < 4; ++step) {
    __m128i next[kStrip];
    for (std::size_t i = 0; i < kStrip / 2; ++i) {
      next[2 * i] = _mm_unpacklo_epi8(rows[i], rows[i + kStrip / 2]);
      next[2 * i + 1] = _mm_unpackhi_epi8(rows[i], rows[i + kStrip / 2]);
    }
    std::memcpy(rows, next, sizeof rows);
  }
}

// The nibbles of a block for each output: column k in the low one of byte k, column k + 16 in the high one.
void nibbles_by_output(const Strip& quants, std::uint8_t (&out)[kStrip][kBlock / 2]) {
  __m128i rows[kStrip];
  const auto load = [&](std::size_t k) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(quants[k])); };
  for (std::size_t k = 0; k < kStrip; ++k) rows[k] = _mm_or_si128(load(k), _mm_slli_epi16(load(k + kStrip), 4));
  transpose(rows);
  std::memcpy(out, rows, sizeof rows);
}

class Rows {
 public:
  Rows(const cria_int4& matrix, std::size_t first, std::size_t count)
      : matrix_(matrix), first_(first), count_(count), order_(matrix.layout == CRIA_INT4_AWQ ? kAwqOrder : kInOrder) {}

  // The zeros and scales of a group.
  void group(std::size_t g, std::uint8_t (&zeros)[kStrip], const std::uint16_t*& scales) const {
    nibbles_of(matrix_.zeros + g * (matrix_.outputs / 8), order_, first_, count_, zeros);
    for (std::uint8_t& zero : zeros) zero = (zero + matrix_.zero_offset) & 15;
    scales = matrix_.scales + g * matrix_.outputs + first_;
  }

  // The quants of 32 columns; those of no input are zeros.
  void quants(const std::int32_t* columns, const std::uint8_t (&zeros)[kStrip], Strip& out) const {
    for (std::size_t k = 0; k < kBlock; ++k) {
      if (columns[k] < 0) {
        std::memcpy(out[k], zeros, kStrip);
      } else {
        input(static_cast<std::size_t>(columns[k]), out[k]);
      }
    }
  }

 private:
  void input(std::size_t i, std::uint8_t (&out)[kStrip]) const {
    if (matrix_.layout == CRIA_INT4_AWQ) {
      const std::int32_t* words = matrix_.weights + i * (matrix_.outputs / 8);
      if (first_ % 8 != 0 || count_ < kStrip) return nibbles_of(words, order_, first_, count_, out);
      const std::uint64_t nibbles[2] = {awq_nibbles(words[first_ / 8]), awq_nibbles(words[first_ / 8 + 1])};
      std::memcpy(out, nibbles, sizeof nibbles);
      return;
    }
    const std::int32_t* words = matrix_.weights + i / 8 * matrix_.outputs + first_;
    const int shift = static_cast<int>(4 * (i % 8));
    if (count_ < kStrip) {
      for (std::size_t r = 0; r < count_; ++r) out[r] = nibble(words[r], shift);
      return;
    }
    for (std::size_t r = 0; r < kStrip; ++r) out[r] = nibble(words[r], shift);  // for the compiler, a whole vector
  }

  const cria_int4& matrix_;
  const std::size_t first_, count_;
  const int (&order_)[8];
};

void put(std::uint16_t scale, std::uint8_t zero, Q4_Z& block) {
  const std::uint16_t half = float_to_half(zero);
  std::memcpy(block.scale, &scale, sizeof scale);
  std::memcpy(block.zero, &half, sizeof half);
}

void put(std::uint16_t scale, std::uint8_t zero, Q4_0& block) {
  // Asked first: the words of an error are an allocation, and this is called for each block.
  if (zero != 8) require(false, "matrix.zeros", "8 throughout for a tensor of q4_0", static_cast<int>(zero));
  std::memcpy(block.scale, &scale, sizeof scale);
}

template <class Block>
void strip(const cria_int4& matrix, std::size_t cols, std::size_t first, std::size_t count, std::uint8_t* out) {
  const Rows rows(matrix, first, count);
  const std::size_t blocks = cols / kBlock;
  for (std::size_t b = 0; b < blocks; ++b) {
    std::uint8_t zeros[kStrip] = {};
    const std::uint16_t* scales;
    rows.group(static_cast<std::size_t>(matrix.column_groups[b]), zeros, scales);
    Strip quants = {};
    rows.quants(matrix.columns + b * kBlock, zeros, quants);
    std::uint8_t nibbles[kStrip][kBlock / 2];
    nibbles_by_output(quants, nibbles);
    for (std::size_t r = 0; r < count; ++r) {
      Block block;
      put(scales[r], zeros[r], block);
      std::memcpy(block.nibbles, nibbles[r], sizeof block.nibbles);
      std::memcpy(out + (r * blocks + b) * sizeof block, &block, sizeof block);
    }
  }
}

// Throws unless `count` integers, of which the first is named, lie in [least, end).
void check_indices(const std::int32_t* indices, std::size_t count, std::int32_t least, std::size_t end,
                   const char* name) {
  for (std::size_t i = 0; i < count; ++i) {
    if (indices[i] >= least && indices[i] < static_cast<std::int64_t>(end)) continue;
    require(false, (std::string(name) + "[" + std::to_string(i) + "]").c_str(),
            "from " + std::to_string(least) + " to " + std::to_string(end - 1), indices[i]);
  }
}

}  // namespace

void check_int4(const cria_int4& matrix, const Tensor& into) {
  const auto size = [](std::size_t n, const char* name, std::size_t granule) {
    require(n > 0 && n <= INT32_MAX && n % granule == 0, name,
            "a multiple of " + std::to_string(granule) + " from 1 to 2^31 - 1", n);
  };
  require(matrix.layout == CRIA_INT4_GPTQ || matrix.layout == CRIA_INT4_AWQ, "matrix.layout", "a cria_int4_layout",
          matrix.layout);
  require(matrix.zero_offset <= 1, "matrix.zero_offset", "0 or 1", matrix.zero_offset);
  size(matrix.inputs, "matrix.inputs", matrix.layout == CRIA_INT4_GPTQ ? 8 : 1);
  size(matrix.outputs, "matrix.outputs", 8);
  size(matrix.groups, "matrix.groups", 1);
  require_layout(into, Layout::kMatrix, "tensor");
  require(into.type == CRIA_TYPE_Q4_Z || into.type == CRIA_TYPE_Q4_0, "tensor", "of CRIA_TYPE_Q4_Z or CRIA_TYPE_Q4_0",
          into.type);
  require_pointer(matrix.weights, "matrix.weights");
  require_pointer(matrix.zeros, "matrix.zeros");
  require_pointer(matrix.scales, "matrix.scales");
  require_pointer(matrix.columns, "matrix.columns");
  require_pointer(matrix.column_groups, "matrix.column_groups");
  check_indices(matrix.columns, into.cols, -1, matrix.inputs, "matrix.columns");
  check_indices(matrix.column_groups, into.cols / kBlock, 0, matrix.groups, "matrix.column_groups");
}

void int4_rows(const cria_int4& matrix, cria_type type, std::size_t cols, std::size_t first, std::size_t count,
               std::uint8_t* out) {
  const std::size_t bytes = row_bytes(type, cols);
  for (std::size_t done = 0; done < count; done += kStrip) {
    const std::size_t rows = std::min(kStrip, count - done);
    (type == CRIA_TYPE_Q4_0 ? strip<Q4_0> : strip<Q4_Z>)(matrix, cols, first + done, rows, out + done * bytes);
  }
}

}  // namespace cria
