// Weights out of a file of arbitrary bytes, at arbitrary offsets, which is cut while it is open: they are what packing
// the same bytes from memory gives, or an error.
#include <algorithm>
#include <memory>
#include <optional>

#include "check.h"
#include "input.h"
#include "memory_file.h"

namespace cria::fuzz {
namespace {

class Files {
 public:
  explicit Files(Input& input) : input_(input), content_(input.array<std::uint8_t>(input.take<std::uint16_t>())) {
    disk_ = std::make_unique<MemoryFile>(content_);
    cria_file* file = nullptr;
    expect(cria_file_open(disk_->path().c_str(), &file) == CRIA_OK, "a file in memory cannot be opened");
    file_.reset(file);
  }

  void step() {
    switch (input_.below(5)) {
      case 0:
        return pack();
      case 1:
        return pack_vector();
      case 2:
        return map();
      case 3:
        return read();
      default:
        return cut();
    }
  }

 private:
  struct Shape {
    cria_type type;
    std::size_t rows, cols;
  };

  Shape shape() {
    Shape shape{.type = kWeightTypes[input_.below(std::size(kWeightTypes))].type,
                .rows = input_.within(1, 40),
                .cols = input_.within(1, 70)};
    if (is_quantised(shape.type)) shape.cols = (shape.cols % 4 + 1) * weight_type(shape.type).block;
    return shape;
  }

  std::uint64_t offset() { return input_.rarely() ? input_.hostile_size() : input_.take<std::uint16_t>(); }

  // The file's bytes there, if it has them.
  std::optional<std::span<const std::uint8_t>> bytes_at(std::uint64_t offset, std::size_t bytes) const {
    if (offset > content_.size() || bytes > content_.size() - offset) return std::nullopt;
    return std::span(content_).subspan(offset, bytes);
  }

  static std::vector<std::uint8_t> packed(const cria_tensor* tensor) {
    std::vector<std::uint8_t> bytes(cria_tensor_bytes(tensor));
    expect(cria_tensor_read_packed(tensor, 0, bytes.data(), bytes.size()) == CRIA_OK, "a tensor cannot be read");
    return bytes;
  }

  // Some rows of a matrix, the others being zeros.
  void pack() {
    const auto [type, rows, cols] = shape();
    const std::size_t row = input_.below(rows), count = input_.within(0, rows - row);
    const std::uint64_t at = offset();
    const Tensor tensor = create_matrix(device(), type, rows, cols);
    const bool packed_it = succeeded(cria_tensor_pack_file(tensor.get(), row, count, file_.get(), at));
    const auto bytes = bytes_at(at, count * row_bytes(type, cols));
    if (count == 0) return;  // where no byte is wanted, the offset may be one that no file has, or not
    expect(packed_it == bytes.has_value(), "rows are packed from where the file has none, or are not");
    if (!bytes) return;
    const Tensor other = create_matrix(device(), type, rows, cols);
    expect(cria_tensor_pack(other.get(), row, count, bytes->data(), bytes->size()) == CRIA_OK, "rows cannot be packed");
    expect(packed(tensor.get()) == packed(other.get()), "rows out of a file differ from those out of memory");
  }

  void pack_vector() {
    const cria_type type = input_.below(2) == 0 ? CRIA_TYPE_F32 : input_.below(2) == 0 ? CRIA_TYPE_F16 : CRIA_TYPE_BF16;
    const std::size_t size = input_.within(1, 200);
    const std::uint64_t at = offset();
    cria_tensor* made = nullptr;
    expect(cria_vector_create(device(), type, size, &made) == CRIA_OK, "a small vector cannot be made");
    const Tensor vector(made);
    const bool packed_it = succeeded(cria_tensor_pack_file(vector.get(), 0, 1, file_.get(), at));
    const auto bytes = bytes_at(at, row_bytes(type, size));
    expect(packed_it == bytes.has_value(), "a vector is packed from where the file has none, or is not");
    if (!bytes) return;
    const Tensor other = fuzz::pack_vector(device(), type, *bytes, size);
    expect(packed(vector.get()) == packed(other.get()), "a vector out of a file differs from one out of memory");
  }

  // A matrix that is the file's bytes as they stand, multiplied with.
  void map() {
    const auto [type, rows, cols] = shape();
    const std::uint64_t at = input_.rarely() ? offset() : offset() / 64 * 64;
    std::size_t bytes = 0;
    expect(cria_matrix_bytes(CRIA_DEVICE_CPU, type, rows, cols, &bytes) == CRIA_OK, "a small matrix has no size");
    cria_tensor* made = nullptr;
    const bool mapped = succeeded(cria_matrix_map(device(), type, rows, cols, file_.get(), at, &made));
    const auto expected = bytes_at(at, bytes);
    if (!expected || at % 64 != 0) {
      // Of a file that was cut, what is left of its last page can still be had; what follows the cut is zeros.
      expect(!mapped || was_cut_, "a matrix is mapped where the file has none");
      if (mapped) cria_tensor_free(made);
      return;
    }
    expect(mapped, "a matrix cannot be mapped");
    const Tensor tensor(made);
    expect(packed(tensor.get()) == std::vector(expected->begin(), expected->end()), "a mapped matrix differs");
    const std::vector<float> x(cols, 1.0f);
    std::vector<float> out(rows);
    expect(cria_matmul(device(), tensor.get(), 1, x.data(), out.data()) == CRIA_OK, "no product with a mapped matrix");
    const std::uint8_t byte = 0;
    expect(cria_tensor_pack(tensor.get(), 0, 0, &byte, 0) == CRIA_ERROR_ARGUMENT, "a mapped matrix is written to");
  }

  // The same out of memory of its own, from any offset.
  void read() {
    const auto [type, rows, cols] = shape();
    const std::uint64_t at = offset();
    std::size_t bytes = 0;
    expect(cria_matrix_bytes(CRIA_DEVICE_CPU, type, rows, cols, &bytes) == CRIA_OK, "a small matrix has no size");
    cria_tensor* made = nullptr;
    const bool read_it = succeeded(cria_matrix_read(device(), type, rows, cols, file_.get(), at, &made));
    const Tensor tensor(made);
    const auto expected = bytes_at(at, bytes);
    expect(read_it == expected.has_value(), "a matrix is read from where the file has none, or is not");
    if (!expected) return;
    const std::vector<std::uint8_t> original(expected->begin(), expected->end());
    if (input_.rarely()) cut();
    expect(packed(made) == original, "a matrix that was read differs");
  }

  // No tensor is mapped meanwhile: whose file is cut while it is used, cria.h promises nothing.
  void cut() {
    content_.resize(std::min<std::size_t>(content_.size(), input_.take<std::uint16_t>()));
    disk_->truncate(content_.size());
    was_cut_ = true;
  }

  static cria_device* device() { return devices().back().get(); }

  Input& input_;
  std::vector<std::uint8_t> content_;  // of the file, as it is
  std::unique_ptr<MemoryFile> disk_;
  File file_;
  bool was_cut_ = false;
};

}  // namespace
}  // namespace cria::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cria::fuzz::Input input(data, size);
  cria::fuzz::Files files(input);
  for (int steps = 0; steps < 20 && !input.empty(); ++steps) files.step();
  return 0;
}
