// What the matrix kernels do with the sums of a panel once they have them; see matmul.h.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstring>

#include "../matmul.h"
#include "../silu.h"

namespace cria::cpu::avx2 {

constexpr std::size_t kHalfRows = 8;                     // rows to a register
constexpr std::size_t kHalves = kPanelRows / kHalfRows;  // registers to a panel

// The 16 sums of one panel and token to where they belong; of the last panel those that are rows.
static inline void finish_panel(const Panels& weights, const MatmulOut& out, std::size_t panel, std::size_t token,
                                const __m256 (&sum)[kHalves]) {
  const std::size_t row = panel * kPanelRows, rows = weights.rows - row;
  float* to = out.data + token * out.stride + row;
  const bool whole = rows >= kPanelRows;
  alignas(32) float part[kPanelRows] = {};
  if (!whole && out.finish == Finish::kAdd) std::memcpy(part, to, rows * sizeof(float));
  float* at = whole ? to : part;
#pragma GCC unroll 2
  for (std::size_t h = 0; h < kHalves; ++h) {
    float* half = at + h * kHalfRows;
    _mm256_storeu_ps(half, out.finish == Finish::kAdd ? _mm256_add_ps(_mm256_loadu_ps(half), sum[h]) : sum[h]);
  }
  if (!whole) std::memcpy(to, part, rows * sizeof(float));
}

// SwiGLU of a gate panel's sums and its partner's.
static inline void finish_gated(const MatmulOut& out, std::size_t gate_panel, std::size_t token,
                                const __m256 (&gate)[kHalves], const __m256 (&up)[kHalves]) {
  float* to = out.data + token * out.stride + gate_panel * kPanelRows;
#pragma GCC unroll 2
  for (std::size_t h = 0; h < kHalves; ++h) {
    _mm256_storeu_ps(to + h * kHalfRows, _mm256_mul_ps(silu(gate[h]), up[h]));
  }
}

}  // namespace cria::cpu::avx2
