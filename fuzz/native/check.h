// What the fuzz targets hold the library to, and the devices that they compare.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "../../csrc/check/handles.h"
#include "../../csrc/cria.h"

namespace cria::fuzz {

// A finding ends the process: the fuzzer then keeps the input.
inline void expect(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "finding: %s (the last error: \"%s\")\n", what, cria_last_error());
  std::abort();
}

// Whether a call succeeded. Whatever it was given, it must have failed as cria.h says: with a sentence, and never as a
// fault of cria's own.
inline bool succeeded(cria_status status) {
  if (status == CRIA_OK) return true;
  expect(status > CRIA_OK && status <= CRIA_ERROR_NUMBERS, "a status is none of cria_status");
  expect(status != CRIA_ERROR_INTERNAL, "CRIA_ERROR_INTERNAL");
  expect(std::strlen(cria_last_error()) > 0, "a failed call left no sentence");
  return false;
}

using check::Cache;
using check::Cancel;
using check::Device;
using check::File;
using check::Program;
using check::Tensor;

inline Device open_device(cria_isa isa, std::uint32_t threads) {
  const cria_device_options options{sizeof(options), CRIA_DEVICE_CPU, isa, threads};
  cria_device* device = nullptr;
  expect(cria_device_open(&options, &device) == CRIA_OK, "a device cannot be opened");
  return Device(device);
}

// A device of one thread for each instruction set that this machine runs, the scalar one, which is the specification,
// first.
inline const std::vector<Device>& devices() {
  static const std::vector<Device> all = [] {
    cria_device_info info{.struct_size = sizeof(info)};
    expect(cria_device_describe(CRIA_DEVICE_CPU, &info) == CRIA_OK, "the CPU cannot be described");
    std::vector<Device> opened;
    for (const cria_isa isa : {CRIA_ISA_SCALAR, CRIA_ISA_AVX2, CRIA_ISA_AVX512}) {
      if ((info.isas >> isa & 1) != 0) opened.push_back(open_device(isa, 1));
    }
    return opened;
  }();
  return all;
}

// The same bits, but that a NaN equals every other NaN: which of its operands' bits one has is the processor's affair.
inline bool same(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0 && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return true;
}

template <class T>
bool same(std::span<const T> a, std::span<const T> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

// run(device, out) on every device, `count` values of T each, which must be the same. A call that fails must fail on
// all.
template <class T, class Run>
void expect_same_on_all(std::size_t count, const char* what, const Run& run) {
  std::vector<T> expected;
  cria_status expected_status = CRIA_OK;
  for (const Device& device : devices()) {
    std::vector<T> out(count);
    const cria_status status = run(device.get(), out.data());
    succeeded(status);
    if (device == devices().front()) {
      expected = std::move(out);
      expected_status = status;
      continue;
    }
    expect(status == expected_status, what);
    expect(same(std::span<const T>(out), std::span<const T>(expected)), what);
  }
}

// A type of weights, as GGUF lays a block of them.
struct WeightType {
  cria_type type;
  std::size_t block, bytes;
};
constexpr WeightType kWeightTypes[] = {
    {CRIA_TYPE_F32, 1, 4},      {CRIA_TYPE_F16, 1, 2},      {CRIA_TYPE_BF16, 1, 2},    {CRIA_TYPE_Q4_0, 32, 18},
    {CRIA_TYPE_Q4_1, 32, 20},   {CRIA_TYPE_Q5_0, 32, 22},   {CRIA_TYPE_Q5_1, 32, 24},  {CRIA_TYPE_Q8_0, 32, 34},
    {CRIA_TYPE_IQ4_NL, 32, 18}, {CRIA_TYPE_Q4_Z, 32, 20},   {CRIA_TYPE_Q2_K, 256, 84}, {CRIA_TYPE_Q3_K, 256, 110},
    {CRIA_TYPE_Q4_K, 256, 144}, {CRIA_TYPE_Q5_K, 256, 176}, {CRIA_TYPE_Q6_K, 256, 210}};
constexpr cria_type kCacheTypes[] = {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_Q8_0};

// What is known of a type; of none that there is, as if it were f16.
inline const WeightType& weight_type(cria_type type) {
  for (const WeightType& known : kWeightTypes) {
    if (known.type == type) return known;
  }
  return kWeightTypes[1];
}

inline bool is_quantised(cria_type type) { return weight_type(type).block > 1; }

// Bytes of a row of weights as GGUF lays it; `cols` is a whole number of blocks.
inline std::size_t row_bytes(cria_type type, std::size_t cols) {
  return cols / weight_type(type).block * weight_type(type).bytes;
}

inline Tensor create_matrix(cria_device* device, cria_type type, std::size_t rows, std::size_t cols) {
  cria_tensor* tensor = nullptr;
  expect(cria_matrix_create(device, type, rows, cols, &tensor) == CRIA_OK, "a small matrix cannot be made");
  return Tensor(tensor);
}

inline Tensor pack_matrix(cria_device* device, cria_type type, std::size_t rows, std::size_t cols,
                          std::span<const std::uint8_t> data) {
  Tensor tensor = create_matrix(device, type, rows, cols);
  expect(cria_tensor_pack(tensor.get(), 0, rows, data.data(), data.size()) == CRIA_OK, "rows cannot be packed");
  return tensor;
}

inline Tensor pack_vector(cria_device* device, cria_type type, std::span<const std::uint8_t> data, std::size_t size) {
  cria_tensor* vector = nullptr;
  expect(cria_vector_create(device, type, size, &vector) == CRIA_OK, "a small vector cannot be made");
  Tensor owned(vector);
  expect(cria_tensor_pack(vector, 0, 1, data.data(), data.size()) == CRIA_OK, "a vector cannot be packed");
  return owned;
}

}  // namespace cria::fuzz
