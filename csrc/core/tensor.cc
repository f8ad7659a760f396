#include "tensor.h"

#include "random.h"
#include "weights.h"

namespace cria {
namespace {

// The first `bytes` of a buffer, which is cleared only where it grows.
std::uint8_t* room(std::vector<std::uint8_t>& buffer, std::size_t bytes) {
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer.data();
}

}  // namespace

void Tensor::pack(std::size_t row, std::size_t count, const std::uint8_t* source) {
  const std::size_t bytes = row_bytes(type, cols);
  pack_from(row, count, [&](std::size_t first, std::size_t, auto&) { return source + first * bytes; });
}

void Tensor::pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) {
  const std::size_t bytes = row_bytes(type, cols);
  pack_from(row, count, [&](std::size_t first, std::size_t wanted, std::vector<std::uint8_t>& buffer) {
    std::uint8_t* read = room(buffer, wanted * bytes);
    file.read(offset + first * bytes, read, wanted * bytes);
    return read;
  });
}

void Tensor::fill_random(std::uint64_t seed, float deviation) {
  const std::size_t bytes = row_bytes(type, cols);
  pack_from(0, rows, [&](std::size_t first, std::size_t wanted, std::vector<std::uint8_t>& buffer) {
    std::uint8_t* made = room(buffer, wanted * bytes);
    for (std::size_t i = 0; i < wanted; ++i) random_row(type, cols, seed, first + i, deviation, made + i * bytes);
    return made;
  });
}

}  // namespace cria
