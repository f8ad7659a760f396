// Attention in AVX2: attention_tile.h with registers of 8 floats and these register tiles.
#include "../attention_tile.h"

namespace cria::cpu::avx2 {
namespace {

struct Tiling {
  using Lanes = Lanes8;

  // Two fused multiply-adds a cycle, each of four cycles, want eight sums at least; six rows by two registers are the
  // most that leave room for the operands, two registers of columns and a broadcast.
  static constexpr int columns(int R) { return R == 6 ? 2 : 8 / R; }

  // Calls f(first row, height), the height being a constant.
  template <class F>
  static void for_register_tiles(std::size_t row, std::size_t end, F f) {
    for (; row + 6 <= end; row += 6) f(row, std::integral_constant<int, 6>());
    for (; row + 2 <= end; row += 2) f(row, std::integral_constant<int, 2>());
    if (row < end) f(row, std::integral_constant<int, 1>());
  }
};

}  // namespace

void attention(const Attention& op, std::size_t begin, std::size_t end) { attend<Tiling>(op, begin, end); }
void attention_merge(const Attention& op, std::size_t begin, std::size_t end) { merge_partials(op, begin, end); }

}  // namespace cria::cpu::avx2
