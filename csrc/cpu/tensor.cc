#include "tensor.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../core/checked.h"
#include "../core/decode.h"
#include "../core/weights.h"
#include "parallel.h"

namespace cria::cpu {
namespace {

// What packing reads at a time: it is written, read and packed within L2 (1 MiB on Zen 4, 2 MiB on recent Intel), and
// is long enough that a read's system call costs nothing beside its copy.
constexpr std::size_t kSliceBytes = 256 << 10;

// What a thread brings in of a file of packed bytes at a time: the largest page that it may be mapped in.
constexpr std::size_t kPieceBytes = 2 << 20;

// function(begin, size) for pieces of `bytes` bytes, on all threads.
template <class Function>
void each_piece(std::size_t bytes, unsigned threads, const Function& function) {
  const std::size_t pieces = bytes / kPieceBytes + (bytes % kPieceBytes != 0);
  parallel_for(pieces, 1, threads, [&](std::size_t from, std::size_t to) {
    const std::size_t begin = from * kPieceBytes, end = std::min(to * kPieceBytes, bytes);
    function(begin, end - begin);
  });
}

// Throws CRIA_ERROR_FILE where the file had not as many bytes at `offset` when it was opened.
void require_bytes(const File& file, std::uint64_t offset, std::size_t bytes) {
  if (bytes <= file.bytes() && offset <= file.bytes() - bytes) return;
  throw Error(CRIA_ERROR_FILE, file.path() + ": must hold " + std::to_string(bytes) + " bytes at " +
                                   std::to_string(offset) + ", but ends at " + std::to_string(file.bytes()));
}

}  // namespace

Matrix::Matrix(cria_type type, std::size_t rows, std::size_t cols, unsigned threads)
    : Tensor(Layout::kMatrix, type, rows, cols),
      memory_(packed_bytes(type, rows, cols)),
      data_(memory_.data()),
      bytes_(memory_.bytes()),
      threads_(threads) {}

Matrix::Matrix(cria_type type, std::size_t rows, std::size_t cols, unsigned threads, const File& file,
               std::uint64_t offset)
    : Tensor(Layout::kMatrix, type, rows, cols),
      mapping_(file.map()),
      bytes_(packed_bytes(type, rows, cols)),
      threads_(threads) {
  require(offset % kLine == 0, "offset", "a multiple of " + std::to_string(kLine), offset);
  require_bytes(file, offset, bytes_);
  data_ = mapping_->data() + offset;
  each_piece(bytes_, threads_, [&](std::size_t begin, std::size_t size) {
    if (mapping_->populate(offset + begin, size)) return;
    throw Error(CRIA_ERROR_FILE, file.path() + ": cannot be read, or was cut while it was mapped");
  });
}

void Matrix::read(const File& file, std::uint64_t offset) {
  require_bytes(file, offset, bytes_);
  each_piece(bytes_, threads_,
             [&](std::size_t begin, std::size_t size) { file.read(offset + begin, memory_.data() + begin, size); });
}

// In slices of whole panels, on all threads.
void Matrix::pack_from(std::size_t row, std::size_t count, const RowSource& source) {
  const std::size_t slice = std::max<std::size_t>(1, kSliceBytes / (row_bytes(type, cols) * kPanelRows));
  const std::size_t begin = row / kPanelRows, end = panel_count(row + count);

  parallel_for(end - begin, slice, threads_, [&](std::size_t from, std::size_t to) {
    std::vector<std::uint8_t> buffer;
    for (std::size_t panel = begin + from; panel < begin + to; panel += slice) {
      const std::size_t first = std::max(row, panel * kPanelRows);
      const std::size_t last = std::min(row + count, std::min(panel + slice, begin + to) * kPanelRows);
      pack_rows(type, memory_.data(), cols, first, last - first, source(first - row, last - first, buffer));
    }
  });
}

void Matrix::unpack(std::size_t row, std::size_t count, std::uint8_t* out) const {
  const std::size_t bytes = row_bytes(type, cols);
  for (std::size_t i = 0; i < count; ++i) unpack_row(panels(), row + i, out + i * bytes);
}

void Matrix::read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const {
  std::memcpy(out, data_ + offset, bytes);
}

Vector::Vector(cria_type type, std::size_t size)
    : Tensor(Layout::kVector, type, 1, size), memory_(checked_product({size, sizeof(float)})) {}

void Vector::pack_from(std::size_t, std::size_t, const RowSource& source) {
  std::vector<std::uint8_t> buffer;
  decode_row(type, cols, source(0, 1, buffer), reinterpret_cast<float*>(memory_.data()));
}

void Vector::unpack(std::size_t, std::size_t, std::uint8_t* out) const { std::memcpy(out, data(), memory_.bytes()); }

void Vector::read_packed(std::size_t offset, std::size_t bytes, std::uint8_t* out) const {
  std::memcpy(out, memory_.data() + offset, bytes);
}

}  // namespace cria::cpu
