// Attention in AVX-512: attention_tile.h with registers of 16 floats and these register tiles.
#include "../attention_tile.h"

namespace cria::cpu::avx512 {
namespace {

struct Tiling {
  using Lanes = Lanes16;

  // Two fused multiply-adds a cycle, each of four cycles, want eight sums at least; sixteen reach the peak with
  // K and V in L1, so 24, which would fit, only make the edges of the causal triangle coarser.
  static constexpr int columns(int R) { return R == 8 ? 2 : R == 4 ? 4 : 8; }

  // Calls f(first row, height), the height being a constant.
  template <class F>
  static void for_register_tiles(std::size_t row, std::size_t end, F f) {
    for (; row + 8 <= end; row += 8) f(row, std::integral_constant<int, 8>());
    for (; row + 4 <= end; row += 4) f(row, std::integral_constant<int, 4>());
    for (; row + 2 <= end; row += 2) f(row, std::integral_constant<int, 2>());
    if (row < end) f(row, std::integral_constant<int, 1>());
  }
};

}  // namespace

void attention(const Attention& op, std::size_t begin, std::size_t end) { attend<Tiling>(op, begin, end); }
void attention_merge(const Attention& op, std::size_t begin, std::size_t end) { merge_partials(op, begin, end); }

}  // namespace cria::cpu::avx512
