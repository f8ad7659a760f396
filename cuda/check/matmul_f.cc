// Products with f32, f16 and bf16 weights: of f32 the scalar CPU kernel's bits, of the others within 3e-5 of what it
// makes of activations rounded to their type; one token's bits whatever the batch; rows from the count on as they were.
#include <algorithm>
#include <bit>
#include <cmath>

#include "../../csrc/core/half.h"
#include "../../csrc/cpu/matmul.h"
#include "../../csrc/cuda/pack.h"
#include "matmul.h"

namespace cria::cuda::check {
namespace {

// Of the tensor cores' sums: a step of 16 columns truncates its sum, by 2^-23 of it at most, and the longest slice, of
// 28,672 columns, has 224 steps.
constexpr double kTolerance = 3e-5;

// To the nearest, ties to even; of finite values.
std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float rounded(cria_type type, float value) {
  if (type == CRIA_TYPE_F16) return half_to_float(float_to_half(value));
  if (type == CRIA_TYPE_BF16) return bf16_to_float(float_to_bf16(value));
  return value;
}

// A matrix as its file holds it.
std::vector<std::uint8_t> random_file(Checks& checks, cria_type type, std::size_t rows, std::size_t cols) {
  std::vector<std::uint8_t> file(rows * row_bytes(type, cols));
  const std::vector<float> values = checks.normal(rows * cols);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (type == CRIA_TYPE_F32) {
      std::memcpy(&file[4 * i], &values[i], 4);
    } else {
      const std::uint16_t bits = type == CRIA_TYPE_F16 ? float_to_half(values[i]) : float_to_bf16(values[i]);
      std::memcpy(&file[2 * i], &bits, 2);
    }
  }
  return file;
}

class Product {
 public:
  Product(Checks& checks, cria_type type, int rows, int cols, int tokens)
      : checks_(checks),
        type_(type),
        rows_(rows),
        cols_(cols),
        tokens_(tokens),
        file_(random_file(checks, type, rows, cols)),
        x_(checks.normal(static_cast<std::size_t>(tokens) * cols)),
        quants_(checks, quants_bytes(type, rows, cols)) {
    std::vector<std::uint8_t> quants(quants_.size());
    pack_rows(type, quants.data(), nullptr, cols, 0, rows, file_.data());
    quants_.write(quants);
    // Token by token: what every batch must give again.
    sums_.rows = rows;
    for (int token = 0; token < tokens; ++token) {
      const Outputs alone = run(x_, token, {1, 1}, Finish::kStore);
      sums_.values.insert(sums_.values.end(), alone.after.begin(), alone.after.begin() + rows);
    }
  }

  void check_with_cpu() {
    const int tokens = std::min(tokens_, 4);
    const Sums cpu = cpu_products(tokens);
    const std::string name = shape({tokens, tokens}, Finish::kStore);
    if (type_ == CRIA_TYPE_F32) {
      checks_.same_bits("matmul_f, CPU", name, cpu.values.data(), sums_.values.data(), cpu.values.size() * 4);
    } else {
      const std::vector<float> sums(sums_.values.begin(), sums_.values.begin() + cpu.values.size());
      checks_.close("matmul_f, CPU", name, cpu.values, sums, kTolerance);
    }
  }

  void check(Batch batch, Finish finish) {
    const Outputs outputs = run(x_, 0, batch, finish);
    const std::vector<float> expected = finished(sums_, finish, batch.count, outputs.stride, outputs.before);
    checks_.same_bits("matmul_f", shape(batch, finish), expected.data(), outputs.after.data(),
                      expected.size() * sizeof(float));
  }

  // A NaN among a token's activations reaches that token's outputs alone, and all of them.
  void check_nan(Batch batch) {
    const int bad = batch.count / 2;
    std::vector<float> x = x_;
    x[static_cast<std::size_t>(bad + 1) * cols_ - 1] = std::nanf("");
    const Outputs outputs = run(x, 0, batch, Finish::kStore);
    std::vector<float> expected = finished(sums_, Finish::kStore, batch.count, outputs.stride, outputs.before);
    std::vector<float> actual = outputs.after;
    expect_nan(bad, rows_, outputs.stride, expected, actual);
    checks_.same_bits("matmul_f of a NaN", shape(batch, Finish::kStore), expected.data(), actual.data(),
                      expected.size() * sizeof(float));
  }

 private:
  // Of tokens [first, first + count) of x; rows behind them are NaN.
  Outputs run(const std::vector<float>& x, int first, Batch batch, Finish finish) {
    std::vector<float> rows(static_cast<std::size_t>(batch.capacity) * cols_, std::nanf(""));
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(first) * cols_, static_cast<std::size_t>(batch.count) * cols_,
                rows.begin());
    const DeviceArray<float> device(checks_, rows);
    const Weights weights{type_, quants_.data(), nullptr, rows_, cols_};
    return run_matmul(checks_, rows_, finish, batch, [&](const MatmulOut& out, const Rows& count) {
      return checks_.plugin.matmul_f({weights, device.data(), count, out}, checks_.stream);
    });
  }

  Sums cpu_products(int tokens) const {
    const std::size_t rows = rows_, cols = cols_;
    // 4 bytes a value at most; aligned as any new array is, and the scalar kernel asks for no more of floats.
    std::vector<float> panels(cpu::packed_bytes(type_, rows, cols) / sizeof(float));
    auto* data = reinterpret_cast<std::uint8_t*>(panels.data());
    cpu::pack_rows(type_, data, cols, 0, rows, file_.data());
    std::vector<float> x(x_.begin(), x_.begin() + tokens * cols);
    for (float& value : x) value = rounded(type_, value);
    Sums sums{rows_, std::vector<float>(tokens * rows)};
    const cpu::MatmulF op{{type_, data, rows, cols},
                          x.data(),
                          cols,
                          static_cast<std::size_t>(tokens),
                          {sums.values.data(), rows, Finish::kStore}};
    cpu::scalar::matmul_f(op, 0, cpu::matmul_units(op.weights, Finish::kStore));
    return sums;
  }

  std::string shape(Batch batch, Finish finish) const {
    return matmul_shape(weight_format(type_).name, rows_, cols_, batch, finish);
  }

  Checks& checks_;
  const cria_type type_;
  const int rows_, cols_, tokens_;
  const std::vector<std::uint8_t> file_;
  const std::vector<float> x_;
  DeviceArray<std::uint8_t> quants_;
  Sums sums_;
};

// Every kernel, with its capacity full and with fewer rows than that: the narrow one by 8 and 16, the GEMM.
constexpr Batch kBatches[] = {{1, 2}, {3, 5}, {8, 8}, {9, 16}, {16, 16}, {17, 40}, {40, 40}, {1, 40}};
constexpr int kMostTokens = 40;

void check_awkward(Checks& checks, cria_type type) {
  // Rows of x that are no multiple of 16 bytes, steps that are cut off, fewer steps than slices and than stages.
  for (const int cols : {7, 32, 50, 64, 96, 2080}) {
    for (const int rows : {1, 17, 33, 96}) {
      Product product(checks, type, rows, cols, kMostTokens);
      product.check_with_cpu();
      for (const Batch batch : kBatches) product.check(batch, Finish::kStore);
      for (const Finish finish : finishes(rows)) {
        for (const Batch batch : {Batch{2, 2}, Batch{7, 12}, Batch{21, 24}}) product.check(batch, finish);
      }
    }
  }
  // More than a block of threads has: of pairs of row tiles, of tokens.
  Product product(checks, type, 320, 176, 70);
  for (const Batch batch : {Batch{70, 70}, Batch{65, 130}, Batch{5, 8}, Batch{13, 16}}) {
    for (const Finish finish : finishes(320)) product.check(batch, finish);
    product.check_nan(batch);
  }
  product.check({0, 1}, Finish::kStore);
  product.check({0, 40}, Finish::kAdd);
}

// Of 7B: qkv, gate and up, down. Of 70B: down, whose slices are the longest.
void check_real(Checks& checks, cria_type type) {
  static constexpr struct {
    int rows, cols;
    Finish finish;
  } kShapes[] = {{12288, 4096, Finish::kStore},
                 {22016, 4096, Finish::kSwiGlu},
                 {4096, 11008, Finish::kAdd},
                 {8192, 28672, Finish::kAdd}};
  for (const auto& shape : kShapes) {
    Product product(checks, type, shape.rows, shape.cols, 80);
    product.check_with_cpu();
    for (const Batch batch : {Batch{1, 1}, Batch{8, 8}, Batch{15, 16}, Batch{80, 80}, Batch{50, 256}}) {
      product.check(batch, shape.finish);
    }
  }
}

}  // namespace

void check_matmul_f(Checks& checks) {
  for (const cria_type type : {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_BF16}) {
    check_awkward(checks, type);
    if (checks.real_shapes) check_real(checks, type);
  }
}

}  // namespace cria::cuda::check
