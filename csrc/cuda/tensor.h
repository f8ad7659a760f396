// The CUDA backend's tensors: matrices in fragment tiles (pack.h), vectors as plain f32.
#pragma once

#include "../../cuda/weights.h"
#include "../core/tensor.h"
#include "device.h"

namespace cria::cuda {

class Matrix final : public Tensor {
 public:
  Matrix(DevicePtr device, cria_type type, std::size_t rows, std::size_t cols);

  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;
  std::size_t bytes() const override { return quants_.bytes() + scales_.bytes(); }

  Weights weights() const {
    return {type, quants_.data(), scales_.data<std::uint16_t>(), static_cast<int>(rows), static_cast<int>(cols)};
  }

 private:
  void pack_from(std::size_t row, std::size_t count, const RowSource& source) override;

  DevicePtr device_;
  DeviceMemory quants_, scales_;
};

class Vector final : public Tensor {
 public:
  Vector(DevicePtr device, cria_type type, std::size_t size);

  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;
  std::size_t bytes() const override { return memory_.bytes(); }

  const float* data() const { return memory_.data<float>(); }

 private:
  void pack_from(std::size_t row, std::size_t count, const RowSource& source) override;

  DevicePtr device_;
  DeviceMemory memory_;
};

}  // namespace cria::cuda
