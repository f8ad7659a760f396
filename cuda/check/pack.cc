// The packed layouts: every format comes back byte for byte, whatever slices its rows came in, nothing but the matrix
// is written, and a weight stands where csrc/cuda/pack.h draws it.
#include "../../csrc/cuda/pack.h"

#include <bit>

#include "checks.h"

namespace cria::cuda::check {
namespace {

struct Packed {
  std::vector<std::uint8_t> quants;
  std::vector<std::uint16_t> scales;
};

Packed pack(cria_type type, int rows, int cols, int slice, const std::vector<std::uint8_t>& source) {
  Packed packed{std::vector<std::uint8_t>(quants_bytes(type, rows, cols)),
                std::vector<std::uint16_t>(scales_bytes(type, rows, cols) / 2)};
  for (int row = 0; row < rows; row += slice) {
    const int count = std::min(slice, rows - row);
    pack_rows(type, packed.quants.data(), packed.scales.data(), cols, row, count,
              source.data() + row * row_bytes(type, cols));
  }
  return packed;
}

void round_trip(Checks& checks, cria_type type, int rows, int cols) {
  const std::size_t row = row_bytes(type, cols);
  std::vector<std::uint8_t> source(rows * row), back(rows * row);
  for (auto& byte : source) byte = static_cast<std::uint8_t>(checks.random());

  const std::string shape =
      std::string(weight_format(type).name) + ' ' + std::to_string(rows) + 'x' + std::to_string(cols);
  const Packed packed = pack(type, rows, cols, rows, source);
  for (int r = 0; r < rows; ++r) {
    unpack_row(type, packed.quants.data(), packed.scales.data(), cols, r, back.data() + r * row);
  }
  checks.same_bits("unpack", shape, source.data(), back.data(), source.size());
  for (const int slice : {1, 5, 16}) {
    const Packed sliced = pack(type, rows, cols, slice, source);
    const std::string name = shape + " by " + std::to_string(slice);
    checks.same_bits("pack quants", name, packed.quants.data(), sliced.quants.data(), packed.quants.size());
    checks.same_bits("pack scales", name, packed.scales.data(), sliced.scales.data(), packed.scales.size() * 2);
  }
  // What is not the matrix is zero: as many bits differ when the weights are all ones as the weights have.
  const Packed ones = pack(type, rows, cols, rows, std::vector<std::uint8_t>(source.size(), 0xff));
  const Packed zeros = pack(type, rows, cols, rows, std::vector<std::uint8_t>(source.size(), 0x00));
  std::size_t written = 0;
  for (std::size_t i = 0; i < ones.quants.size(); ++i) {
    written += std::popcount(static_cast<std::uint8_t>(ones.quants[i] ^ zeros.quants[i]));
  }
  for (std::size_t i = 0; i < ones.scales.size(); ++i) {
    written += std::popcount(static_cast<std::uint16_t>(ones.scales[i] ^ zeros.scales[i]));
  }
  const std::size_t expected = 8 * source.size();
  checks.same_bits("pack bits", shape, &expected, &written, sizeof written);
}

// One weight of a matrix of zeros, of the rows and columns that a register of a lane should hold.
void place(Checks& checks) {
  const int rows = 32, cols = 128;
  const int row = 16 + 8 + 3, col = 64 + 32 + 16 + 4 * 2 + 1;  // tile 1, g 3, +8; superblock 1, block 1, +16, t 2, j 1
  std::vector<std::uint8_t> source(rows * row_bytes(CRIA_TYPE_Q8_0, cols));
  source[row * row_bytes(CRIA_TYPE_Q8_0, cols) + col / 32 * sizeof(Q8_0) + 2 + col % 32] = 0x81;
  const Packed q8 = pack(CRIA_TYPE_Q8_0, rows, cols, rows, source);
  std::vector<std::uint8_t> expected(q8.quants.size());
  expected[1 * 2048 + 1 * 1024 + 1 * 512 + (3 * 4 + 2) * 16 + 3 * 4 + 1] = 0x81;  // a3
  checks.same_bits("pack place", "q8_0", expected.data(), q8.quants.data(), expected.size());

  std::vector<std::uint8_t> fours(rows * row_bytes(CRIA_TYPE_Q4_0, cols));
  for (std::size_t i = 0; i < fours.size(); ++i) fours[i] = i % sizeof(Q4_0) < 2 ? 0 : 0x88;
  fours[row * row_bytes(CRIA_TYPE_Q4_0, cols) + col / 32 * sizeof(Q4_0) + 2 + col % 16] = 0x58;  // -3 above 0
  const Packed q4 = pack(CRIA_TYPE_Q4_0, rows, cols, rows, fours);
  expected.assign(q4.quants.size(), 0);
  expected[1 * 1024 + 1 * 512 + (3 * 4 + 2) * 16 + 3 * 4 + 1] = 0xd0;
  checks.same_bits("pack place", "q4_0", expected.data(), q4.quants.data(), expected.size());
}

}  // namespace

void check_pack(Checks& checks) {
  for (const cria_type type : {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_BF16, CRIA_TYPE_Q4_0, CRIA_TYPE_Q8_0,
                               CRIA_TYPE_Q4_K, CRIA_TYPE_Q5_K, CRIA_TYPE_Q6_K}) {
    for (const int rows : {1, 17, 33}) {
      const bool large = weight_format(type).block > 32;
      for (const int cols : large ? std::vector<int>{256, 768} : std::vector<int>{32, 64, 96, 2080}) {
        round_trip(checks, type, rows, cols);
      }
    }
    if (!is_quantised(type)) round_trip(checks, type, 9, 7);
  }
  place(checks);
}

}  // namespace cria::cuda::check
