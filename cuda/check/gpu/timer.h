// Time on a GPU, by events around graphs of many launches, so that neither the host nor one launch's own cost counts
// for much; and memory to time with, of which launches in turn take another part, so that no cache holds it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../checks.h"

namespace cria::cuda::check {

// Bytes that operands in turn must have together: five times the 50 MiB L2 of an H200.
constexpr std::size_t kRotationBytes = std::size_t{256} << 20;

// How many operands of `bytes` those are: one where it is larger than that by itself, and no more than a graph may well
// hold. Operands so small, the activations of few tokens, are in the L2 in a model, too.
constexpr std::size_t kMostOperands = 512;
inline int rotation_of(std::size_t bytes) {
  return static_cast<int>(std::min((kRotationBytes + bytes - 1) / bytes, kMostOperands));
}

struct Time {
  double micros, spread;  // the median; (90th percentile - 10th) / median
  int samples;
};

Time time_of(std::vector<double> micros);

class Timer {
 public:
  explicit Timer(Checks& checks);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Of one launch, which puts its work on checks.stream: called with 0, 1, ..., rotation - 1 in turn.
  Time operator()(int rotation, const std::function<void(int)>& launch);

 private:
  std::vector<double> sample(int launches, int rotation, int samples, const std::function<void(int)>& launch);

  Checks& checks_;
  void *first_ = nullptr, *last_ = nullptr;
};

// Memory on the device that holds something: words of 16 bits that are binary16 between 1/4 and 1/2 of either sign, and
// whatever else a kernel takes them for: small floats, any int8 and int4.
class Filled {
 public:
  Filled(Checks& checks, std::size_t bytes);
  ~Filled();
  Filled(const Filled&) = delete;
  Filled& operator=(const Filled&) = delete;

  template <class T = std::uint8_t>
  T* at(std::size_t byte = 0) const {
    return reinterpret_cast<T*>(static_cast<std::uint8_t*>(memory_) + byte);
  }

 private:
  Checks& checks_;
  void* memory_ = nullptr;
};

}  // namespace cria::cuda::check
