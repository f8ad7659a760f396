#include "tensor.h"

#include "decode.h"
#include "encode.h"
#include "int4.h"
#include "random.h"
#include "weights.h"

namespace cria {
namespace {

// The first `bytes` of a buffer, which is cleared only where it grows.
std::uint8_t* room(std::vector<std::uint8_t>& buffer, std::size_t bytes) {
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer.data();
}

// Rows of `bytes` bytes, one after another, in memory...
RowSource rows_in_memory(const std::uint8_t* source, std::size_t bytes) {
  return [=](std::size_t first, std::size_t, auto&) { return source + first * bytes; };
}

// ... and in a file, which outlives this.
RowSource rows_in_file(const File& file, std::uint64_t offset, std::size_t bytes) {
  return [=, &file](std::size_t first, std::size_t wanted, std::vector<std::uint8_t>& buffer) {
    std::uint8_t* read = room(buffer, wanted * bytes);
    file.read(offset + first * bytes, read, wanted * bytes);
    return read;
  };
}

}  // namespace

void Tensor::pack(std::size_t row, std::size_t count, const std::uint8_t* source) {
  pack_from(row, count, rows_in_memory(source, row_bytes(type, cols)));
}

void Tensor::pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) {
  pack_from(row, count, rows_in_file(file, offset, row_bytes(type, cols)));
}

void Tensor::convert(std::size_t row, std::size_t count, cria_type from, const std::uint8_t* source) {
  convert_from(row, count, from, rows_in_memory(source, row_bytes(from, cols)));
}

void Tensor::convert_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset, cria_type from) {
  convert_from(row, count, from, rows_in_file(file, offset, row_bytes(from, cols)));
}

void Tensor::convert_from(std::size_t row, std::size_t count, cria_type from, const RowSource& source) {
  if (from == type) return pack_from(row, count, source);
  const std::size_t bytes = row_bytes(type, cols);
  pack_from(row, count, [&](std::size_t first, std::size_t wanted, std::vector<std::uint8_t>& buffer) {
    std::uint8_t* encoded = room(buffer, wanted * bytes);
    std::vector<std::uint8_t> stored;
    std::vector<float> weights(cols);
    for (std::size_t i = 0; i < wanted; ++i) {
      decode_row(from, cols, source(first + i, 1, stored), weights.data());
      require_fit(type, row + first + i, cols, weights.data());
      encode_row(type, cols, weights.data(), encoded + i * bytes);
    }
    return encoded;
  });
}

void Tensor::pack_int4(std::size_t row, const cria_int4& matrix) {
  const std::size_t bytes = row_bytes(type, cols);
  pack_from(row, matrix.outputs, [&](std::size_t first, std::size_t wanted, std::vector<std::uint8_t>& buffer) {
    std::uint8_t* made = room(buffer, wanted * bytes);
    int4_rows(matrix, type, cols, first, wanted, made);
    return made;
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
