// Quantised rows: as the CPU makes them, where the device has them.
#pragma once

#include <vector>

#include "../../csrc/cpu/quantize.h"
#include "rows.h"

namespace cria::cuda::check {

struct HostQuants {
  std::vector<std::int8_t> quants;
  std::vector<float> scales;
};

// Bytes of quants and number of scales of quant_rows.h's layout.
inline std::size_t quants_room(const RowShape& shape) { return superblocks(shape.dim) * kSuperblock * shape.capacity; }
inline std::size_t scales_room(const RowShape& shape) { return quants_room(shape) / kQuantBlock; }

// x as the scalar CPU kernel quantises it, in the device's layout; rows past the count are poison.
inline HostQuants quantized_by_cpu(const RowShape& shape, const std::vector<float>& x) {
  const std::size_t blocks = cpu::quant_blocks(shape.dim), count = shape.count, dim = shape.dim;
  std::vector<std::int8_t> quants(count * blocks * kQuantBlock);
  std::vector<float> scales(count * blocks);
  std::vector<std::int32_t> seeds(count * blocks);
  std::vector<cpu::QuantSums> sums(count * blocks);
  const cpu::QuantRows by_row = cpu::quant_row_by_row(quants.data(), scales.data(), seeds.data(), sums.data(), dim);
  cpu::scalar::quantize({x.data(), dim, dim, by_row}, 0, count);

  HostQuants out{poisoned<std::int8_t>(quants_room(shape)), poisoned<float>(scales_room(shape))};
  for (std::size_t row = 0; row < count; ++row) {
    for (std::size_t block = 0; block < blocks; ++block) {
      out.scales[block * shape.capacity + row] = scales[row * blocks + block];
      for (std::size_t k = 0; k < kQuantBlock; ++k) {
        const std::size_t chunk = (block * kQuantBlock + k) / kQuantChunk;
        out.quants[(chunk * shape.capacity + row) * kQuantChunk + k % kQuantChunk] = by_row.block(row, block)[k];
      }
    }
  }
  return out;
}

class DeviceQuants {
 public:
  DeviceQuants(Checks& checks, const RowShape& shape)
      : quants_(checks, quants_room(shape)), scales_(checks, scales_room(shape)), capacity_(shape.capacity) {}
  operator QuantRows() const { return {quants_.data(), scales_.data(), capacity_}; }

  HostQuants read() const { return {quants_.read(), scales_.read()}; }

 private:
  DeviceArray<std::int8_t> quants_;
  DeviceArray<float> scales_;
  int capacity_;
};

inline void same_quants(Checks& checks, const std::string& op, const std::string& shape, const HostQuants& expected,
                        const HostQuants& actual) {
  checks.same_bits(op + " quants", shape, expected.quants.data(), actual.quants.data(), expected.quants.size());
  checks.same_bits(op + " scales", shape, expected.scales.data(), actual.scales.data(), expected.scales.size() * 4);
}

}  // namespace cria::cuda::check
