// The CPU backend's tensors: matrices in panels (panel.h), vectors as plain f32.
#pragma once

#include <memory>

#include "../core/tensor.h"
#include "memory.h"
#include "panel.h"

namespace cria::cpu {

class Matrix final : public Tensor {
 public:
  Matrix(cria_type type, std::size_t rows, std::size_t cols, unsigned threads);
  // Over a file that holds what packing would have made, all of its pages brought in. Throws CRIA_ERROR_FILE where the
  // file is too short, CRIA_ERROR_ARGUMENT where `offset` is not a cache line's.
  Matrix(cria_type type, std::size_t rows, std::size_t cols, unsigned threads, const File& file, std::uint64_t offset);

  // The same, read into the memory of this matrix, which is no file's.
  void read(const File& file, std::uint64_t offset);

  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  std::size_t bytes() const override { return bytes_; }
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;
  bool mapped() const override { return mapping_ != nullptr; }

  Panels panels() const { return {type, data_, rows, cols}; }

 private:
  void pack_from(std::size_t row, std::size_t count, const RowSource& source) override;

  Memory memory_;                           // of a matrix that is packed here
  std::shared_ptr<const Mapping> mapping_;  // of one that stands in a file
  const std::uint8_t* data_;                // in either
  std::size_t bytes_;
  unsigned threads_;
};

class Vector final : public Tensor {
 public:
  Vector(cria_type type, std::size_t size);

  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  std::size_t bytes() const override { return memory_.bytes(); }
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;

  const float* data() const { return reinterpret_cast<const float*>(memory_.data()); }

 private:
  void pack_from(std::size_t row, std::size_t count, const RowSource& source) override;

  Memory memory_;
};

}  // namespace cria::cpu
