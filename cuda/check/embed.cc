#include "../../csrc/cpu/embed.h"

#include "../../csrc/core/random.h"
#include "../../csrc/cuda/pack.h"
#include "rows.h"

namespace cria::cuda::check {
namespace {

constexpr int kTableRows = 40;  // the last tile is half filled

void check_table(Checks& checks, cria_type type, const RowShape& shape, float deviation) {
  const std::size_t cols = shape.dim;
  std::vector<std::uint8_t> file(kTableRows * row_bytes(type, cols)), panels(cpu::packed_bytes(type, kTableRows, cols)),
      quants(quants_bytes(type, kTableRows, cols));
  std::vector<std::uint16_t> scales(scales_bytes(type, kTableRows, cols) / 2);
  for (int row = 0; row < kTableRows; ++row) {
    random_row(type, cols, 7, row, deviation, &file[row * row_bytes(type, cols)]);
  }
  cpu::pack_rows(type, panels.data(), cols, 0, kTableRows, file.data());
  pack_rows(type, quants.data(), scales.data(), cols, 0, kTableRows, file.data());

  auto tokens = poisoned<std::int32_t>(shape.capacity);
  for (int row = 0; row < shape.count; ++row) tokens[row] = row == 0 ? 39 : static_cast<int>(checks.random() % 40);
  auto expected = poisoned<float>(shape.room());
  cpu::scalar::embed({{type, panels.data(), kTableRows, cols}, tokens.data(), expected.data(), cols}, 0, shape.count);

  const DeviceArray<std::uint8_t> device_quants(checks, quants);
  const DeviceArray<std::uint16_t> device_scales(checks, scales);
  const DeviceArray<std::int32_t> device_tokens(checks, tokens);
  const DeviceArray<float> out(checks, shape.room());
  const Weights table{type, device_quants.data(), device_scales.data(), kTableRows, shape.dim};
  const DeviceRows rows(checks, shape.count, shape.capacity);
  checks.require(checks.plugin.embed({table, device_tokens.data(), rows, out.data()}, checks.stream), "embed");
  same_array(checks, "embed", std::string(weight_format(type).name) + ' ' + shape.name(), expected, out);
}

}  // namespace

void check_embed(Checks& checks) {
  for (const cria_type type : {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_BF16, CRIA_TYPE_Q4_0, CRIA_TYPE_Q8_0,
                               CRIA_TYPE_Q4_K, CRIA_TYPE_Q5_K, CRIA_TYPE_Q6_K}) {
    const int block = static_cast<int>(weight_format(type).block);
    for (RowShape shape : row_shapes(checks)) {
      shape.dim = (shape.dim + block - 1) / block * block;
      check_table(checks, type, shape, 1.0f);
    }
    check_table(checks, type, {5, 5, (96 + block - 1) / block * block}, 1e-6f);  // binary16 subnormals
  }
}

}  // namespace cria::cuda::check
