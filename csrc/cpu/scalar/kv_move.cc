#include "../../core/half.h"
#include "../kv_move_runs.h"

namespace cria::cpu::scalar {
namespace {

void widen(const std::uint16_t* in, float* out) {
  for (std::size_t i = 0; i < kKvBlock; ++i) out[i] = half_to_float(in[i]);
}

void narrow(const float* in, std::uint16_t* out) {
  for (std::size_t i = 0; i < kKvBlock; ++i) out[i] = float_to_half(in[i]);
}

}  // namespace

void kv_move(const KvMove& op, std::size_t begin, std::size_t end) { move_units(op, begin, end, widen, narrow); }

}  // namespace cria::cpu::scalar
