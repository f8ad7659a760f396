// The CUDA backend's tensors: matrices in fragment tiles (pack.h), vectors as plain f32.
#pragma once

#include "../../cuda/weights.h"
#include "../core/tensor.h"
#include "device.h"

namespace cria::cuda {

class Matrix final : public Tensor {
 public:
  Matrix(DevicePtr device, cria_type type, std::size_t rows, std::size_t cols);

  void pack(std::size_t row, std::size_t count, const std::uint8_t* source) override;
  void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) override;
  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void fill_random(std::uint64_t seed, float deviation) override;
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;
  std::size_t bytes() const override { return quants_.bytes() + scales_.bytes(); }

  Weights weights() const {
    return {type, quants_.data(), scales_.data<std::uint16_t>(), static_cast<int>(rows), static_cast<int>(cols)};
  }

 private:
  template <class Fetch>
  void pack_slices(std::size_t row, std::size_t count, const Fetch& fetch);

  DevicePtr device_;
  DeviceMemory quants_, scales_;
};

class Vector final : public Tensor {
 public:
  Vector(DevicePtr device, cria_type type, std::size_t size);

  void pack(std::size_t row, std::size_t count, const std::uint8_t* source) override;
  void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) override;
  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void fill_random(std::uint64_t seed, float deviation) override;
  void read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const override;
  std::size_t bytes() const override { return memory_.bytes(); }

  const float* data() const { return memory_.data<float>(); }

 private:
  DevicePtr device_;
  DeviceMemory memory_;
};

}  // namespace cria::cuda
