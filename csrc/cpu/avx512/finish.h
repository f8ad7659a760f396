// What the matrix kernels do with the sums of a panel once they have them; see matmul.h.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "../matmul.h"
#include "../silu.h"
#include "tail.h"

namespace cria::cpu::avx512 {

// The 16 sums of one panel and token to where they belong; of the last panel those that are rows.
static inline void finish_panel(const Panels& weights, const MatmulOut& out, std::size_t panel, std::size_t token,
                                __m512 sum) {
  const std::size_t row = panel * kPanelRows, rows = weights.rows - row;
  const __mmask16 lanes = rows >= kPanelRows ? 0xffff : first_lanes(rows);
  float* to = out.data + token * out.stride + row;
  if (out.finish == Finish::kAdd) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), sum);
  _mm512_mask_storeu_ps(to, lanes, sum);
}

// SwiGLU of a gate panel's sums and its partner's.
static inline void finish_gated(const MatmulOut& out, std::size_t gate_panel, std::size_t token, __m512 gate,
                                __m512 up) {
  _mm512_storeu_ps(out.data + token * out.stride + gate_panel * kPanelRows, _mm512_mul_ps(silu(gate), up));
}

}  // namespace cria::cpu::avx512
