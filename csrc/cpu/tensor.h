// The CPU backend's tensors: matrices in panels (panel.h), vectors as plain f32.
#pragma once

#include "../core/tensor.h"
#include "memory.h"
#include "panel.h"

namespace cria::cpu {

class Matrix final : public Tensor {
 public:
  Matrix(cria_type type, std::size_t rows, std::size_t cols, unsigned threads);

  void pack(std::size_t row, std::size_t count, const std::uint8_t* source) override;
  void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) override;
  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void fill_random(std::uint64_t seed, float deviation) override;
  std::size_t bytes() const override { return memory_.bytes(); }

  Panels panels() const { return {type, memory_.data(), rows, cols}; }

 private:
  template <class Fetch>
  void pack_slices(std::size_t row, std::size_t count, const Fetch& fetch);

  Memory memory_;
  unsigned threads_;
};

class Vector final : public Tensor {
 public:
  Vector(cria_type type, std::size_t size);

  void pack(std::size_t row, std::size_t count, const std::uint8_t* source) override;
  void pack_file(std::size_t row, std::size_t count, const File& file, std::uint64_t offset) override;
  void unpack(std::size_t row, std::size_t count, std::uint8_t* out) const override;
  void fill_random(std::uint64_t seed, float deviation) override;
  std::size_t bytes() const override { return memory_.bytes(); }

  const float* data() const { return reinterpret_cast<const float*>(memory_.data()); }

 private:
  Memory memory_;
};

}  // namespace cria::cpu
