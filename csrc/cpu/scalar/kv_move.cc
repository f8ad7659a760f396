#include "../../core/half.h"
#include "../kv_move_runs.h"
#include "../quantize_block.h"

namespace cria::cpu::scalar {
namespace {

struct Row {
  static void widen(const std::uint16_t* in, float* out) {
    for (std::size_t i = 0; i < kKvBlock; ++i) out[i] = half_to_float(in[i]);
  }

  static void narrow(const float* in, std::uint16_t* out) {
    for (std::size_t i = 0; i < kKvBlock; ++i) out[i] = float_to_half(in[i]);
  }

  static float quantize(const float* x, std::int8_t* quants) { return quantize_block(x, quants); }
};

}  // namespace

void kv_move(const KvMove& op, std::size_t begin, std::size_t end) { move_units<Row>(op, begin, end); }

}  // namespace cria::cpu::scalar
