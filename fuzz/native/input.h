// A fuzzer's bytes, read as numbers, choices and arrays from the front. Behind their end all is 0, so that any bytes
// are some input, and bytes that are appended change nothing of what came before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace cria::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  // The next sizeof(T) bytes as they are.
  template <class T>
  T take() {
    T value{};
    const std::size_t bytes = left_ < sizeof(T) ? left_ : sizeof(T);
    if (bytes > 0) std::memcpy(&value, data_, bytes);
    skip(bytes);
    return value;
  }

  // One byte: a number below `limit`, which is from 1 to 256.
  std::size_t below(std::size_t limit) { return take<std::uint8_t>() % limit; }

  // One byte: a number in [from, to].
  std::size_t within(std::size_t from, std::size_t to) { return from + below(to - from + 1); }

  // Seldom, and never behind the end.
  bool rarely() { return take<std::uint8_t>() >= 0xf0; }

  // A size that a caller should not have given: near the ends of the types that sizes pass through, or any.
  std::size_t hostile_size() {
    constexpr std::size_t kEdges[] = {0,
                                      std::size_t{1} << 31,
                                      std::size_t{1} << 32,
                                      std::size_t{1} << 61,
                                      std::size_t{1} << 62,
                                      std::size_t{1} << 63};
    const std::size_t choice = below(8);
    if (choice == 7) return take<std::size_t>();
    const std::size_t edge = choice == 6 ? std::numeric_limits<std::size_t>::max() - 2 : kEdges[choice];
    return edge + below(5) - 2;
  }

  // An id, a position or a block that may be anything.
  std::int32_t hostile_int() {
    constexpr std::int32_t kEdges[] = {-1, INT32_MIN, INT32_MAX, INT32_MAX - 1, 1 << 30};
    const std::size_t choice = below(6);
    return choice == 5 ? take<std::int32_t>() : kEdges[choice];
  }

  // Fills `bytes` by repeating the next few of the input, as many as one byte says, so that small inputs make large
  // arrays; 255 of them mean that nothing is repeated.
  void fill(void* out, std::size_t bytes) {
    constexpr std::size_t kAll = 255;
    auto* to = static_cast<std::uint8_t*>(out);
    std::memset(to, 0, bytes);
    const std::size_t wanted = take<std::uint8_t>();
    std::size_t period = wanted == kAll || wanted > bytes ? bytes : wanted;
    if (period > left_) period = left_;
    if (period == 0) return;
    std::memcpy(to, data_, period);
    skip(period);
    if (wanted == kAll) return;
    for (std::size_t i = period; i < bytes; ++i) to[i] = to[i - period];
  }

  template <class T>
  std::vector<T> array(std::size_t count) {
    std::vector<T> values(count);
    if (count > 0) fill(values.data(), count * sizeof(T));
    return values;
  }

 private:
  void skip(std::size_t bytes) {
    data_ += bytes;
    left_ -= bytes;
  }

  const std::uint8_t* data_;
  std::size_t left_;
};

}  // namespace cria::fuzz
