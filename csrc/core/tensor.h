// A weight tensor on a device: what every backend's tensors have in common.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../cria.h"
#include "error.h"
#include "file.h"

namespace cria {

enum class Layout {
  kMatrix,  // in the backend's layout for products
  kVector,  // f32, contiguous; one row
};

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
  virtual void pack(std::size_t row, std::size_t count, const std::uint8_t* source) = 0;
  virtual void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) = 0;
  virtual void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const = 0;
  virtual void fill_random(std::uint64_t seed, float deviation) = 0;
  // Copies bytes [offset, offset + bytes) of the `bytes()` that it takes: a matrix in the backend's layout, a vector as
  // f32.
  virtual void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const = 0;
  // Whether the memory is a file's, which nothing may be packed into.
  virtual bool mapped() const { return false; }
  virtual std::size_t bytes() const = 0;
};

// Throws CRIA_ERROR_ARGUMENT, naming the argument, where the tensor has another layout.
inline void require_layout(const Tensor& tensor, Layout layout, const char* name) {
  if (tensor.layout == layout) return;
  throw Error(CRIA_ERROR_ARGUMENT,
              std::string(name) + (layout == Layout::kMatrix ? ": must be a matrix, not a vector"
                                                             : ": must be a vector, not a matrix"));
}

}  // namespace cria
