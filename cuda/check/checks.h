// Every kernel against the scalar CPU kernels: over awkward shapes in each run of the tests, through the emulation, and
// over real ones on a GPU. One file an op, each a function of Checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "../plugin.h"

namespace cria::cuda::check {

struct Result {
  std::string op, shape;
  double error, tolerance;  // the largest difference, over the largest expected magnitude; 0 and 0 for bits
  bool passed;
};

class Checks {
 public:
  Checks(const Plugin& plugin, bool real_shapes);
  ~Checks();
  Checks(const Checks&) = delete;
  Checks& operator=(const Checks&) = delete;

  const Plugin& plugin;
  const bool real_shapes;  // else awkward ones, small enough for the emulation
  Stream stream = nullptr;
  std::mt19937 random{42};

  // Throws std::runtime_error where the device reports a failure.
  void require(Status status, const char* what) const;

  // Compare what a kernel wrote with what it should have. NaN equals nothing, except as bits.
  void same_bits(const std::string& op, const std::string& shape, const void* expected, const void* actual,
                 std::size_t bytes);
  void close(const std::string& op, const std::string& shape, std::span<const float> expected,
             std::span<const float> actual, double tolerance);

  const std::vector<Result>& results() const { return results_; }

  std::vector<float> normal(std::size_t count, float deviation = 1.0f);

 private:
  void add(Result result);

  std::vector<Result> results_;
};

// An array on the device. New memory is all ones, as bits: NaN where it is read before it is written.
template <class T>
class DeviceArray {
 public:
  static_assert(std::is_trivially_copyable_v<T>);

  DeviceArray(Checks& checks, std::size_t count) : checks_(checks), count_(count) {
    void* memory = nullptr;
    checks.require(checks.plugin.allocate(&memory, count * sizeof(T) + 1), "allocate");
    data_ = static_cast<T*>(memory);
    std::vector<std::uint8_t> ones(count * sizeof(T), 0xff);
    checks.require(checks.plugin.copy(data_, ones.data(), ones.size(), checks.stream), "copy");
    checks.require(checks.plugin.synchronize(checks.stream), "synchronize");
  }
  DeviceArray(Checks& checks, const std::vector<T>& values) : DeviceArray(checks, values.size()) { write(values); }
  ~DeviceArray() { checks_.plugin.free(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return count_; }

  // As many values as it has room for.
  void write(const std::vector<T>& values) {
    checks_.require(checks_.plugin.copy(data_, values.data(), count_ * sizeof(T), checks_.stream), "copy");
    checks_.require(checks_.plugin.synchronize(checks_.stream), "synchronize");
  }

  // What it holds, when all that was put on the stream is done.
  std::vector<T> read() const {
    std::vector<T> values(count_);
    checks_.require(checks_.plugin.copy(values.data(), data_, count_ * sizeof(T), checks_.stream), "copy");
    checks_.require(checks_.plugin.synchronize(checks_.stream), "synchronize");
    return values;
  }

 private:
  Checks& checks_;
  std::size_t count_;
  T* data_;
};

// A count of rows on the device, with room in the grid for `capacity`.
class DeviceRows {
 public:
  DeviceRows(Checks& checks, int count, int capacity)
      : count_(checks, std::vector<std::int32_t>{count}), capacity_(capacity) {}
  operator Rows() const { return {capacity_, count_.data()}; }

 private:
  DeviceArray<std::int32_t> count_;
  int capacity_;
};

// How weights lie in memory, then the ops, in the order of a forward pass.
void check_pack(Checks&);
void check_embed(Checks&);
void check_rmsnorm(Checks&);
void check_quantize(Checks&);
void check_matmul_q(Checks&);
void check_matmul_gemm(Checks&);
void check_matmul_f(Checks&);
void check_rope(Checks&);
void check_kv_move(Checks&);
void check_attention(Checks&);
void check_prefix_attention(Checks&);
void check_swiglu(Checks&);
void check_add(Checks&);
void check_select(Checks&);
void check_sample(Checks&);

// All of them together, through cria.h: a device of that kind against the CPU.
void check_forward(Checks&, cria_device_kind);
void check_graphs(Checks&, cria_device_kind);

}  // namespace cria::cuda::check
