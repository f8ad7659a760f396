#include "tensor.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../core/checked.h"
#include "../core/decode.h"
#include "../core/weights.h"
#include "pack.h"

namespace cria::cuda {
namespace {

constexpr std::size_t kTileRows = 16;

// Of rows as a file has them, packed at a time: large enough for the bus, small beside the host's memory.
constexpr std::size_t kSliceBytes = 16 << 20;

std::size_t tiles(std::size_t rows) { return (rows + kTileRows - 1) / kTileRows; }

}  // namespace

Matrix::Matrix(DevicePtr device, cria_type type, std::size_t rows, std::size_t cols)
    : Tensor(Layout::kMatrix, type, rows, cols),
      device_(device),
      quants_(device, quants_bytes(type, rows, cols)),
      scales_(device, scales_bytes(type, rows, cols)) {
  const std::lock_guard turn(device_->turn);
  device_->clear(quants_.data(), quants_.bytes());
  device_->clear(scales_.data(), scales_.bytes());
  device_->synchronize();
}

// On the host, in slices of whole tiles, which are then copied. A tile that the rows fill in part is fetched first.
void Matrix::pack_from(std::size_t row, std::size_t count, const RowSource& source) {
  const std::size_t tile_quants = quants_bytes(type, kTileRows, cols),
                    tile_scales = scales_bytes(type, kTileRows, cols);
  const std::size_t slice = std::max<std::size_t>(1, kSliceBytes / (row_bytes(type, cols) * kTileRows));
  std::vector<std::uint8_t> quants, scales, buffer;

  for (std::size_t tile = row / kTileRows; tile < tiles(row + count); tile += slice) {
    const std::size_t begin = tile * kTileRows, end = std::min((tile + slice) * kTileRows, rows);
    const std::size_t first = std::max(row, begin), last = std::min(row + count, end);
    const std::size_t quants_at = tile * tile_quants, scales_at = tile * tile_scales;
    const auto slice_bytes = [&](std::size_t tile_bytes, std::size_t at, std::size_t all) {
      return std::min(tiles(end - begin) * tile_bytes, all - at);
    };
    quants.assign(slice_bytes(tile_quants, quants_at, quants_.bytes()), 0);
    scales.assign(slice_bytes(tile_scales, scales_at, scales_.bytes()), 0);
    const std::uint8_t* fetched = source(first - row, last - first, buffer);

    const std::lock_guard turn(device_->turn);
    if (first != begin || last != end) {
      device_->copy(quants.data(), quants_.data() + quants_at, quants.size());
      device_->copy(scales.data(), scales_.data() + scales_at, scales.size());
      device_->synchronize();
    }
    pack_rows(type, quants.data(), reinterpret_cast<std::uint16_t*>(scales.data()), cols, first - begin, last - first,
              fetched);
    device_->copy(quants_.data() + quants_at, quants.data(), quants.size());
    device_->copy(scales_.data() + scales_at, scales.data(), scales.size());
    device_->synchronize();
  }
}

void Matrix::unpack(std::size_t row, std::size_t count, std::uint8_t* out) const {
  const std::size_t begin = row / kTileRows, bytes = row_bytes(type, cols);
  const std::size_t quants_at = begin * quants_bytes(type, kTileRows, cols);
  const std::size_t scales_at = begin * scales_bytes(type, kTileRows, cols);
  const std::size_t packed_rows = row - begin * kTileRows + count;
  std::vector<std::uint8_t> quants(quants_bytes(type, packed_rows, cols)),
      scales(scales_bytes(type, packed_rows, cols));
  {
    const std::lock_guard turn(device_->turn);
    device_->copy(quants.data(), quants_.data() + quants_at, quants.size());
    device_->copy(scales.data(), scales_.data() + scales_at, scales.size());
    device_->synchronize();
  }
  for (std::size_t i = 0; i < count; ++i) {
    unpack_row(type, quants.data(), reinterpret_cast<const std::uint16_t*>(scales.data()), cols,
               row - begin * kTileRows + i, out + i * bytes);
  }
}

void Matrix::read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const {
  const std::lock_guard turn(device_->turn);
  const std::size_t quants = offset < quants_.bytes() ? std::min(bytes, quants_.bytes() - offset) : 0;
  if (quants > 0) device_->copy(out, quants_.data() + offset, quants);
  if (bytes > quants) {
    device_->copy(out + quants, scales_.data() + (offset + quants - quants_.bytes()), bytes - quants);
  }
  device_->synchronize();
}

Vector::Vector(DevicePtr device, cria_type type, std::size_t size)
    : Tensor(Layout::kVector, type, 1, size), device_(device), memory_(device, checked_product({size, sizeof(float)})) {
  const std::lock_guard turn(device_->turn);
  device_->clear(memory_.data(), memory_.bytes());
  device_->synchronize();
}

void Vector::pack_from(std::size_t, std::size_t, const RowSource& source) {
  std::vector<std::uint8_t> buffer;
  std::vector<float> values(cols);
  decode_row(type, cols, source(0, 1, buffer), values.data());
  const std::lock_guard turn(device_->turn);
  device_->copy(memory_.data(), values.data(), memory_.bytes());
  device_->synchronize();
}

void Vector::unpack(std::size_t, std::size_t, std::uint8_t* out) const { read_packed(0, memory_.bytes(), out); }

void Vector::read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const {
  const std::lock_guard turn(device_->turn);
  device_->copy(out, memory_.data() + offset, bytes);
  device_->synchronize();
}

}  // namespace cria::cuda
