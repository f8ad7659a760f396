// A weight tensor on a device: what every backend's tensors have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../cria.h"
#include "error.h"
#include "file.h"

namespace cria {

enum class Layout {
  kMatrix,  // in the backend's layout for products
  kVector,  // f32, contiguous; one row
};

// The bytes of rows [first, first + rows) of those that are to be packed, counted from 0, as a file has them. They may
// be put in `buffer`, which the caller keeps from call to call. Several threads may call at a time, each with its own.
using RowSource =
    std::function<const std::uint8_t*(std::size_t first, std::size_t rows, std::vector<std::uint8_t>& buffer)>;

class Tensor {
 public:
  Tensor(Layout layout, cria_type type, std::size_t rows, std::size_t cols)
      : layout(layout), type(type), rows(rows), cols(cols) {}
  virtual ~Tensor() = default;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  const Layout layout;
  const cria_type type;  // of the bytes that pack takes
  const std::size_t rows, cols;

  // Rows [row, row + count) exist, and `source` and `out` hold as many; capi.cc has checked it.
  void pack(std::size_t row, std::size_t count, const std::uint8_t* source);
  void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset);
  // The same of rows in type `from`, of which `cols` are whole blocks. Throws CRIA_ERROR_NUMBERS.
  void convert(std::size_t row, std::size_t count, cria_type from, const std::uint8_t* source);
  void convert_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset, cria_type from);
  void pack_int4(std::size_t row, const cria_int4& matrix);  // that check_int4 took
  void fill_random(std::uint64_t seed, float deviation);
  virtual void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const = 0;
  // Copies bytes [offset, offset + bytes) of the `bytes()` that it takes: a matrix in the backend's layout, a vector as
  // f32.
  virtual void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const = 0;
  // Whether the memory is a file's, which nothing may be packed into.
  virtual bool mapped() const { return false; }
  virtual std::size_t bytes() const = 0;

 private:
  // Packs rows [row, row + count), as many at a time as the backend likes to.
  virtual void pack_from(std::size_t row, std::size_t count, const RowSource& source) = 0;
  // Packs rows that `source` gives in type `from`, one at a time.
  void convert_from(std::size_t row, std::size_t count, cria_type from, const RowSource& source);
};

// Throws CRIA_ERROR_ARGUMENT, naming the argument, where the tensor has another layout.
inline void require_layout(const Tensor& tensor, Layout layout, const char* name) {
  if (tensor.layout == layout) return;
  throw Error(CRIA_ERROR_ARGUMENT,
              std::string(name) + (layout == Layout::kMatrix ? ": must be a matrix, not a vector"
                                                             : ": must be a vector, not a matrix"));
}

}  // namespace cria
