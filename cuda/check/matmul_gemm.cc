// Products of many tokens with quantised weights: the bits of matmul.h's formula, whatever kernel computes them, and
// rows from the count on as they were.
#include <cmath>

#include "../../csrc/core/half.h"
#include "../../csrc/cpu/silu.h"
#include "../../csrc/cuda/pack.h"
#include "checks.h"

namespace cria::cuda::check {
namespace {

struct Shape {
  cria_type type;
  int rows, cols, tokens, capacity;
  Finish finish;
};

// A matrix, block by block, as its file holds it and in floats of its scales.
struct Matrix {
  int blocks;  // of a row
  std::vector<std::int8_t> quants;
  std::vector<float> scales;
  std::vector<std::uint8_t> packed;
  std::vector<std::uint16_t> packed_scales;
};

template <class Block, class Put>
void fill_rows(Checks& checks, const Shape& shape, Matrix& matrix, int low, int high, const Put& put) {
  std::uniform_int_distribution<int> quant(low, high), scale(0x0001, 0x2fff);  // from the smallest subnormal to 0.125
  std::vector<Block> row(matrix.blocks);
  for (int r = 0; r < shape.rows; ++r) {
    for (int b = 0; b < matrix.blocks; ++b) {
      const auto half = static_cast<std::uint16_t>(scale(checks.random) | (checks.random() % 2) << 15);
      row[b].scale[0] = half & 0xff;
      row[b].scale[1] = half >> 8;
      std::int8_t* quants = &matrix.quants[(static_cast<std::size_t>(r) * matrix.blocks + b) * 32];
      for (int k = 0; k < 32; ++k) quants[k] = quant(checks.random);
      put(row[b], quants);
      matrix.scales[static_cast<std::size_t>(r) * matrix.blocks + b] = half_to_float(half);
    }
    pack_rows(shape.type, matrix.packed.data(), matrix.packed_scales.data(), shape.cols, r, 1,
              reinterpret_cast<const std::uint8_t*>(row.data()));
  }
}

Matrix random_matrix(Checks& checks, const Shape& shape) {
  const int blocks = shape.cols / 32;
  const std::size_t all = static_cast<std::size_t>(shape.rows) * blocks;
  Matrix matrix{blocks, std::vector<std::int8_t>(all * 32), std::vector<float>(all),
                std::vector<std::uint8_t>(quants_bytes(shape.type, shape.rows, shape.cols)),
                std::vector<std::uint16_t>(scales_bytes(shape.type, shape.rows, shape.cols) / 2)};
  if (shape.type == CRIA_TYPE_Q4_0) {
    fill_rows<Q4_0>(checks, shape, matrix, -8, 7, [](Q4_0& block, const std::int8_t* quants) {
      for (int k = 0; k < 16; ++k) block.nibbles[k] = (quants[k] + 8) | (quants[k + 16] + 8) << 4;
    });
  } else {
    fill_rows<Q8_0>(checks, shape, matrix, -128, 127,
                    [](Q8_0& block, const std::int8_t* quants) { std::copy(quants, quants + 32, block.quants); });
  }
  return matrix;
}

// Quantised rows as quant_rows.h draws them; those from the count on are NaN.
struct Activations {
  std::vector<std::int8_t> quants;
  std::vector<float> scales;
};

Activations random_activations(Checks& checks, const Shape& shape) {
  const std::size_t n = superblocks(shape.cols);
  std::uniform_int_distribution<int> quant(-127, 127), exponent(-126, -3);
  Activations x{std::vector<std::int8_t>(n * 4 * shape.capacity * 16), std::vector<float>(n * 2 * shape.capacity)};
  for (std::size_t chunk = 0; chunk < n * 4; ++chunk) {
    for (int token = 0; token < shape.capacity; ++token) {
      for (int k = 0; k < 16; ++k) {
        const bool inside = chunk * 16 + k < static_cast<std::size_t>(shape.cols);
        x.quants[(chunk * shape.capacity + token) * 16 + k] = inside ? quant(checks.random) : 0;
      }
    }
  }
  std::uniform_real_distribution<float> fraction(1.0f, 2.0f);
  for (std::size_t block = 0; block < n * 2; ++block) {
    for (int token = 0; token < shape.capacity; ++token) {
      float& scale = x.scales[block * shape.capacity + token];
      // One token in four has scales whose product with a weight's is subnormal.
      scale = token >= shape.tokens ? std::nanf("")
              : block * 32 >= static_cast<std::size_t>(shape.cols)
                  ? 0.0f
                  : std::ldexp(fraction(checks.random), token % 4 == 0 ? exponent(checks.random) : -7);
    }
  }
  return x;
}

// One output's sum, as matmul.h has it.
float product(const Shape& shape, const Matrix& matrix, const Activations& x, int token, int row) {
  const int n = static_cast<int>(superblocks(shape.cols));
  float total = 0.0f;
  for (int slice = 0; slice < kSlices; ++slice) {
    float sum = 0.0f;
    for (int b = 2 * slice_begin(slice, n); b < 2 * slice_begin(slice + 1, n) && b < matrix.blocks; ++b) {
      int dot = 0;
      for (int k = 0; k < 32; ++k) {
        const std::size_t chunk = b * 2 + k / 16;
        dot += matrix.quants[(static_cast<std::size_t>(row) * matrix.blocks + b) * 32 + k] *
               x.quants[(chunk * shape.capacity + token) * 16 + k % 16];
      }
      const float weight_scale = matrix.scales[static_cast<std::size_t>(row) * matrix.blocks + b];
      const float scale = weight_scale * x.scales[static_cast<std::size_t>(b) * shape.capacity + token];
      sum = std::fma(static_cast<float>(dot), scale, sum);
    }
    total = slice == 0 ? sum : total + sum;
  }
  return total;
}

void check(Checks& checks, const Shape& shape) {
  const Matrix matrix = random_matrix(checks, shape);
  const Activations x = random_activations(checks, shape);
  const bool swiglu = shape.finish == Finish::kSwiGlu;
  const int outputs = swiglu ? shape.rows / 2 : shape.rows, stride = outputs + 3;
  const std::vector<float> before = checks.normal(static_cast<std::size_t>(shape.capacity) * stride);

  std::vector<float> expected = before;
  for (int token = 0; token < shape.tokens; ++token) {
    for (int row = 0; row < outputs; ++row) {
      float& out = expected[static_cast<std::size_t>(token) * stride + row];
      const float sum = product(shape, matrix, x, token, row);
      if (swiglu) {
        out = cpu::silu(sum) * product(shape, matrix, x, token, row + outputs);
      } else {
        out = shape.finish == Finish::kAdd ? out + sum : sum;
      }
    }
  }

  const DeviceArray<std::uint8_t> weights(checks, matrix.packed);
  const DeviceArray<std::uint16_t> scales(checks, matrix.packed_scales);
  const DeviceArray<std::int8_t> quants(checks, x.quants);
  const DeviceArray<float> x_scales(checks, x.scales), out(checks, before);
  const DeviceRows rows(checks, shape.tokens, shape.capacity);
  checks.require(checks.plugin.matmul_q({{shape.type, weights.data(), scales.data(), shape.rows, shape.cols},
                                         {quants.data(), x_scales.data(), shape.capacity},
                                         rows,
                                         {out.data(), stride, shape.finish}},
                                        checks.stream),
                 "matmul_q");
  static constexpr const char* kFinishes[] = {"store", "add", "swiglu"};
  checks.same_bits("matmul_q of many",
                   std::string(weight_format(shape.type).name) + ' ' + std::to_string(shape.rows) + 'x' +
                       std::to_string(shape.cols) + " by " + std::to_string(shape.tokens) + " of " +
                       std::to_string(shape.capacity) + ' ' + kFinishes[static_cast<int>(shape.finish)],
                   expected.data(), out.read().data(), expected.size() * sizeof(float));
}

}  // namespace

void check_matmul_gemm(Checks& checks) {
  struct Size {
    int rows, cols, tokens, capacity;
  };
  // Row tiles and pairs of them that end in the middle of a block of threads; fewer superblocks than slices, and than
  // copies in flight; half a superblock; tokens that end in the middle of everything. Capacities up to 64, above, and
  // on Hopper those that are multiples of 4 take different kernels.
  static constexpr Size kAwkward[] = {
      {16, 32, 17, 17},  {48, 96, 40, 64},      {144, 576, 64, 64},    {96, 64, 1, 20},
      {144, 96, 65, 65}, {160, 576, 9, 130},    {288, 1184, 129, 131}, {144, 576, 100, 300},
      {96, 32, 68, 68},  {160, 1184, 131, 132}, {48, 704, 300, 300},   {256, 320, 300, 300},
  };
  // Few rows, for what they are compared with takes the CPU a second a billion.
  static constexpr Size kReal[] = {{1408, 4096, 512, 512}, {512, 11008, 509, 512}, {512, 4096, 511, 511}};
  const auto all = [&](const Size& size) {
    for (const cria_type type : {CRIA_TYPE_Q4_0, CRIA_TYPE_Q8_0}) {
      for (const Finish finish : {Finish::kStore, Finish::kAdd, Finish::kSwiGlu}) {
        if (finish == Finish::kSwiGlu && size.rows % 32 != 0) continue;
        check(checks, {type, size.rows, size.cols, size.tokens, size.capacity, finish});
      }
    }
  };
  for (const Size& size : kAwkward) all(size);
  if (checks.real_shapes) {
    for (const Size& size : kReal) all(size);
  }
}

}  // namespace cria::cuda::check
