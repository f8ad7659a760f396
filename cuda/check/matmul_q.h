// A product with quantised weights, random ones, and what its outputs should be: matmul.h's formula in plain C++.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include "../../csrc/core/decode.h"
#include "../../csrc/core/half.h"
#include "../../csrc/cpu/matmul.h"
#include "../../csrc/cuda/pack.h"
#include "matmul.h"

namespace cria::cuda::check {

// A matrix as its file holds it, and block by block.
struct QuantMatrix {
  cria_type type;
  int rows, cols;
  std::vector<std::uint8_t> file;
  std::vector<std::int8_t> quants;  // [rows][cols]; what the formula calls w
  std::vector<float> scales;        // [rows][blocks]; its weight_scale
  std::vector<std::int8_t> groups;  // [rows][blocks][2], of q6_K: the integer scales
  std::vector<float> minima;        // [rows][blocks], of q4_K and q5_K: what is added for each activation

  int blocks() const { return cols / 32; }
  const std::int8_t* block(int row, int b) const {
    return &quants[(static_cast<std::size_t>(row) * blocks() + b) * 32];
  }
  std::size_t at(int row, int b) const { return static_cast<std::size_t>(row) * blocks() + b; }
  float scale(int row, int b) const { return scales[at(row, b)]; }
  int group(int row, int b, int half) const { return groups.empty() ? 1 : groups[2 * at(row, b) + half]; }
};

inline void put_quants(Q4_0& block, const std::int8_t* quants) {
  for (int k = 0; k < 16; ++k) block.nibbles[k] = (quants[k] + 8) | (quants[k + 16] + 8) << 4;
}
inline void put_quants(Q8_0& block, const std::int8_t* quants) { std::copy(quants, quants + 32, block.quants); }

template <class Block>
inline QuantMatrix random_matrix(Checks& checks, cria_type type, int rows, int cols, int low, int high) {
  const std::size_t blocks = static_cast<std::size_t>(rows) * (cols / 32);
  QuantMatrix matrix{type,
                     rows,
                     cols,
                     std::vector<std::uint8_t>(blocks * sizeof(Block)),
                     std::vector<std::int8_t>(blocks * 32),
                     std::vector<float>(blocks),
                     {},
                     {}};
  std::uniform_int_distribution<int> quant(low, high), scale(0x0001, 0x2fff);  // from the smallest subnormal to 0.125
  for (std::size_t b = 0; b < blocks; ++b) {
    auto& block = reinterpret_cast<Block*>(matrix.file.data())[b];
    const auto half = static_cast<std::uint16_t>(scale(checks.random) | (checks.random() % 2) << 15);
    std::memcpy(block.scale, &half, 2);
    matrix.scales[b] = half_to_float(half);
    for (int k = 0; k < 32; ++k) matrix.quants[b * 32 + k] = static_cast<std::int8_t>(quant(checks.random));
    put_quants(block, &matrix.quants[b * 32]);
  }
  return matrix;
}

// What a K-quant's block says, by way of decode_row, which knows every format: with the scale 1 and no minimum its
// weights are quants times integer scales, with integer scales of 1 the quants.
inline void set_halves(std::uint8_t* scale, float value) {
  const std::uint16_t half = float_to_half(value);
  std::memcpy(scale, &half, 2);
}

template <class Block>
inline std::vector<float> decoded(cria_type type, Block block, float scale, float least) {
  set_halves(block.scale, scale);
  if constexpr (!std::is_same_v<Block, Q6_K>) set_halves(block.least, least);
  std::vector<float> weights(kBlockK);
  decode_row(type, kBlockK, reinterpret_cast<const std::uint8_t*>(&block), weights.data());
  return weights;
}

// The block with integer scales of 1.
template <class Block>
inline Block with_unit_scales(Block block) {
  if constexpr (std::is_same_v<Block, Q6_K>) {
    std::fill_n(block.scales, 16, std::int8_t{1});
  } else {
    // Scales of the first four groups, their minima, and the lower four bits of the others' scales.
    for (int i = 0; i < 12; ++i) block.scales[i] = i >= 4 && i < 8 ? 0 : 1;
  }
  return block;
}

inline float random_half(Checks& checks, std::uint8_t (&to)[2], bool negative) {
  std::uniform_int_distribution<int> bits(0x0001, 0x2fff);  // from the smallest subnormal to 0.125
  const auto half = static_cast<std::uint16_t>(bits(checks.random) | (negative && checks.random() % 2 ? 0x8000 : 0));
  std::memcpy(to, &half, 2);
  return half_to_float(half);
}

// The integer scale of 16 columns, from one of its weights that is not 0; where there is none any will do.
inline int integer_scale(const float* scaled, const std::int8_t* quants, int count) {
  for (int k = 0; k < count; ++k) {
    if (quants[k] != 0) return static_cast<int>(scaled[k]) / quants[k];
  }
  return 1;
}

template <class Block>
inline QuantMatrix random_k_matrix(Checks& checks, cria_type type, int rows, int cols) {
  const std::size_t blocks = static_cast<std::size_t>(rows) * (cols / kBlockK);
  QuantMatrix matrix{type, rows, cols, std::vector<std::uint8_t>(blocks * sizeof(Block)), {}, {}, {}, {}};
  for (auto& byte : matrix.file) byte = static_cast<std::uint8_t>(checks.random());
  for (std::size_t b = 0; b < blocks; ++b) {
    auto& block = reinterpret_cast<Block*>(matrix.file.data())[b];
    const float scale = random_half(checks, block.scale, true);
    const std::vector<float> quants = decoded(type, with_unit_scales(block), 1.0f, 0.0f),
                             scaled = decoded(type, block, 1.0f, 0.0f);
    const std::size_t first = matrix.quants.size();
    for (const float quant : quants) matrix.quants.push_back(static_cast<std::int8_t>(quant));
    const auto integer = [&](std::size_t k, int count) {
      return integer_scale(&scaled[k], &matrix.quants[first + k], count);
    };
    if constexpr (std::is_same_v<Block, Q6_K>) {
      for (std::size_t k = 0; k < kBlockK; k += 32) {
        matrix.scales.push_back(scale);
        for (std::size_t h = 0; h < 2; ++h) matrix.groups.push_back(static_cast<std::int8_t>(integer(k + 16 * h, 16)));
      }
    } else {
      const float least = random_half(checks, block.least, true);
      const std::vector<float> minima = decoded(type, block, 0.0f, 1.0f);  // times -1
      for (std::size_t k = 0; k < kBlockK; k += 32) {
        matrix.scales.push_back(scale * static_cast<float>(integer(k, 32)));
        matrix.minima.push_back(-(least * std::fabs(minima[k])));
      }
    }
  }
  return matrix;
}

inline QuantMatrix random_matrix(Checks& checks, cria_type type, int rows, int cols) {
  if (type == CRIA_TYPE_Q4_K) return random_k_matrix<Q4_K>(checks, type, rows, cols);
  if (type == CRIA_TYPE_Q5_K) return random_k_matrix<Q5_K>(checks, type, rows, cols);
  if (type == CRIA_TYPE_Q6_K) return random_k_matrix<Q6_K>(checks, type, rows, cols);
  return type == CRIA_TYPE_Q4_0 ? random_matrix<Q4_0>(checks, type, rows, cols, -8, 7)
                                : random_matrix<Q8_0>(checks, type, rows, cols, -128, 127);
}

// Quantised rows, [tokens][cols] and [tokens][blocks].
struct QuantActivations {
  int tokens, cols;
  std::vector<std::int8_t> quants;
  std::vector<float> scales;

  int blocks() const { return cols / 32; }
  const std::int8_t* block(int token, int b) const {
    return &quants[(static_cast<std::size_t>(token) * blocks() + b) * 32];
  }
  float& scale(int token, int b) { return scales[static_cast<std::size_t>(token) * blocks() + b]; }
  float scale(int token, int b) const { return scales[static_cast<std::size_t>(token) * blocks() + b]; }
};

inline QuantActivations random_activations(Checks& checks, int tokens, int cols) {
  QuantActivations x{tokens, cols, std::vector<std::int8_t>(static_cast<std::size_t>(tokens) * cols),
                     std::vector<float>(static_cast<std::size_t>(tokens) * cols / 32)};
  std::uniform_int_distribution<int> quant(-127, 127), exponent(-126, -3);
  std::uniform_real_distribution<float> fraction(1.0f, 2.0f);
  for (auto& q : x.quants) q = static_cast<std::int8_t>(quant(checks.random));
  for (int token = 0; token < tokens; ++token) {
    for (int b = 0; b < x.blocks(); ++b) {
      // One token in four has scales whose product with a weight's may be subnormal.
      x.scale(token, b) = std::ldexp(fraction(checks.random), token % 4 == 3 ? exponent(checks.random) : -7);
    }
  }
  return x;
}

// The first `count` rows as quant_rows.h draws them; those behind are NaN, and quants that would be seen.
struct DeviceActivations {
  DeviceArray<std::int8_t> quants;
  DeviceArray<float> scales;
  int capacity;

  operator QuantRows() const { return {quants.data(), scales.data(), capacity}; }
};

inline DeviceActivations lay_out(Checks& checks, const QuantActivations& x, Batch batch) {
  const std::size_t n = superblocks(x.cols), capacity = batch.capacity;
  std::vector<std::int8_t> quants(n * 4 * capacity * kQuantChunk, 0x55);
  std::vector<float> scales(n * 2 * capacity, std::nanf(""));
  for (std::size_t token = 0; token < static_cast<std::size_t>(batch.count); ++token) {
    for (std::size_t b = 0; b < n * 2; ++b) {
      const bool inside = b < static_cast<std::size_t>(x.blocks());
      scales[b * capacity + token] = inside ? x.scale(token, b) : 0.0f;
      for (std::size_t k = 0; k < 32; ++k) {
        quants[((2 * b + k / 16) * capacity + token) * kQuantChunk + k % 16] = inside ? x.block(token, b)[k] : 0;
      }
    }
  }
  return {{checks, quants}, {checks, scales}, batch.capacity};
}

// One output's sum, as matmul.h has it.
inline float product(const QuantMatrix& matrix, const QuantActivations& x, int token, int row) {
  const int n = static_cast<int>(superblocks(matrix.cols));
  float total = 0.0f;
  for (int slice = 0; slice < kSlices; ++slice) {
    float sum = 0.0f;
    const int end = std::min(2 * slice_begin(slice + 1, n), matrix.blocks());
    for (int b = 2 * slice_begin(slice, n); b < end; ++b) {
      const std::int8_t *w = matrix.block(row, b), *q = x.block(token, b);
      std::int32_t dot = 0, x_sum = 0;
      for (int k = 0; k < 32; ++k) {
        dot += matrix.group(row, b, k / 16) * w[k] * q[k];
        x_sum += q[k];
      }
      sum = std::fma(static_cast<float>(dot), matrix.scale(row, b) * x.scale(token, b), sum);
      if (matrix.minima.empty()) continue;
      sum = std::fma(matrix.minima[matrix.at(row, b)], static_cast<float>(x_sum) * x.scale(token, b), sum);
    }
    total = slice == 0 ? sum : total + sum;
  }
  return total;
}

inline Sums products(const QuantMatrix& matrix, const QuantActivations& x) {
  Sums sums{matrix.rows, std::vector<float>(static_cast<std::size_t>(x.tokens) * matrix.rows)};
  for (int token = 0; token < x.tokens; ++token) {
    for (int row = 0; row < matrix.rows; ++row) {
      sums.values[static_cast<std::size_t>(token) * matrix.rows + row] = product(matrix, x, token, row);
    }
  }
  return sums;
}

inline auto scalar_product(cria_type type) -> void (*)(const cpu::MatmulQ&, std::size_t, std::size_t) {
  switch (type) {
    case CRIA_TYPE_Q4_0:
      return cpu::scalar::matmul_q4;
    case CRIA_TYPE_Q4_K:
      return cpu::scalar::matmul_q4_k;
    case CRIA_TYPE_Q5_K:
      return cpu::scalar::matmul_q5_k;
    case CRIA_TYPE_Q6_K:
      return cpu::scalar::matmul_q6_k;
    default:
      return cpu::scalar::matmul_q8;
  }
}

// The same sums by the scalar CPU kernel.
inline Sums cpu_products(const QuantMatrix& matrix, const QuantActivations& x, int tokens) {
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  std::vector<Line> panels(cpu::packed_bytes(matrix.type, matrix.rows, matrix.cols) / sizeof(Line) + 1);
  auto* data = reinterpret_cast<std::uint8_t*>(panels.data());
  cpu::pack_rows(matrix.type, data, matrix.cols, 0, matrix.rows, matrix.file.data());

  const std::size_t blocks = cpu::quant_blocks(matrix.cols);
  std::vector<std::int8_t> quants(tokens * blocks * 32);
  std::vector<float> scales(tokens * blocks);
  std::vector<std::int32_t> seeds(tokens * blocks);
  std::vector<cpu::QuantSums> halves(tokens * blocks);
  const cpu::QuantRows rows =
      cpu::quant_row_by_row(quants.data(), scales.data(), seeds.data(), halves.data(), matrix.cols);
  for (int token = 0; token < tokens; ++token) {
    for (int b = 0; b < x.blocks(); ++b) {
      const std::int8_t* block = x.block(token, b);
      std::copy(block, block + 32, rows.block(token, b));
      scales[rows.at(token, b)] = x.scale(token, b);
      const std::int32_t first = std::accumulate(block, block + 16, 0),
                         last = std::accumulate(block + 16, block + 32, 0);
      seeds[rows.at(token, b)] = cpu::kSeed * (first + last);
      halves[rows.at(token, b)] = cpu::quant_sums(first, last);
    }
  }
  Sums sums{matrix.rows, std::vector<float>(static_cast<std::size_t>(tokens) * matrix.rows)};
  const std::size_t dims[] = {static_cast<std::size_t>(matrix.rows), static_cast<std::size_t>(matrix.cols)};
  const cpu::MatmulQ op{{matrix.type, data, dims[0], dims[1]},
                        rows,
                        static_cast<std::size_t>(tokens),
                        {sums.values.data(), dims[0], Finish::kStore}};
  const std::size_t units = cpu::matmul_units(op.weights, Finish::kStore);
  scalar_product(matrix.type)(op, 0, units);
  return sums;
}

// Every type that has kernels.
inline constexpr cria_type kQuantTypes[] = {CRIA_TYPE_Q4_0, CRIA_TYPE_Q8_0, CRIA_TYPE_Q4_K, CRIA_TYPE_Q5_K,
                                            CRIA_TYPE_Q6_K};

// The next whole number of the type's blocks.
inline int whole_blocks(cria_type type, int cols) {
  const int block = static_cast<int>(weight_format(type).block);
  return (cols + block - 1) / block * block;
}

class QuantProduct {
 public:
  QuantProduct(Checks& checks, cria_type type, int rows, int cols, int tokens)
      : checks_(checks),
        matrix_(random_matrix(checks, type, rows, cols)),
        x_(random_activations(checks, tokens, cols)),
        sums_(products(matrix_, x_)),
        quants_(checks, quants_bytes(type, rows, cols)),
        scales_(checks, scales_bytes(type, rows, cols) / 2) {
    std::vector<std::uint8_t> quants(quants_.size());
    std::vector<std::uint16_t> scales(scales_.size());
    pack_rows(type, quants.data(), scales.data(), cols, 0, rows, matrix_.file.data());
    quants_.write(quants);
    scales_.write(scales);
  }

  void check(Batch batch, Finish finish) {
    const Outputs outputs = run(x_, batch, finish);
    const std::vector<float> expected = finished(sums_, finish, batch.count, outputs.stride, outputs.before);
    checks_.same_bits("matmul_q", shape(batch, finish), expected.data(), outputs.after.data(),
                      expected.size() * sizeof(float));
  }

  // A few tokens are enough: that all have the formula's bits is checked.
  void check_with_cpu() {
    const int tokens = std::min(x_.tokens, 3);
    const Sums sums = cpu_products(matrix_, x_, tokens);
    const std::vector<float> formula(sums_.values.begin(), sums_.values.begin() + sums.values.size());
    checks_.close("matmul_q formula, CPU", shape({tokens, tokens}, Finish::kStore), sums.values, formula, 1e-5);
  }

  // A token whose quantisation met a NaN: its outputs are NaN, all of them, and nobody else's change.
  void check_nan(Batch batch) {
    const int bad = batch.count / 2;
    QuantActivations x = x_;
    x.scale(bad, x.blocks() - 1) = std::nanf("");
    const Outputs outputs = run(x, batch, Finish::kStore);
    std::vector<float> expected = finished(sums_, Finish::kStore, batch.count, outputs.stride, outputs.before);
    std::vector<float> actual = outputs.after;
    expect_nan(bad, matrix_.rows, outputs.stride, expected, actual);
    checks_.same_bits("matmul_q of a NaN", shape(batch, Finish::kStore), expected.data(), actual.data(),
                      expected.size() * sizeof(float));
  }

 private:
  Outputs run(const QuantActivations& x, Batch batch, Finish finish) {
    const DeviceActivations quants = lay_out(checks_, x, batch);
    const Weights weights{matrix_.type, quants_.data(), scales_.data(), matrix_.rows, matrix_.cols};
    return run_matmul(checks_, matrix_.rows, finish, batch, [&](const MatmulOut& out, const Rows& rows) {
      return checks_.plugin.matmul_q({weights, quants, rows, out}, checks_.stream);
    });
  }
  std::string shape(Batch batch, Finish finish) const {
    return matmul_shape(weight_format(matrix_.type).name, matrix_.rows, matrix_.cols, batch, finish);
  }

  Checks& checks_;
  const QuantMatrix matrix_;
  const QuantActivations x_;
  const Sums sums_;
  DeviceArray<std::uint8_t> quants_;
  DeviceArray<std::uint16_t> scales_;
};

}  // namespace cria::cuda::check
