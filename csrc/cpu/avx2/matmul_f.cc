#include <immintrin.h>

#include "../matmul.h"
#include "store_rows.h"
#include "tiles.h"

namespace cria::cpu::avx2 {
namespace {

struct F32 {
  using Element = float;
  static __m256 widen(const float* p) { return _mm256_load_ps(p); }
};

struct F16 {
  using Element = std::uint16_t;
  static __m256 widen(const std::uint16_t* p) {
    return _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
};

struct Bf16 {
  using Element = std::uint16_t;
  static __m256 widen(const std::uint16_t* p) {
    const __m256i words = _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
  }
};

// Tokens [token, token + Tokens) of panels [panel, panel + Panels).
//
// An output is one serial chain of four-cycle FMAs. Two panels at once make 4 chains at one token, one line of f32
// weights in 4 cycles from each panel, which is more than memory delivers; and 12 at three tokens, more than the 8 that
// fill two FMA pipes.
template <class Format, int Tokens, int Panels>
void tile(const MatmulF& op, std::size_t panel, std::size_t token) {
  const std::size_t cols = op.weights.cols;
  const auto* weights = panel_values<typename Format::Element>(op.weights, panel);
  const float* x = op.x + token * op.x_stride;

  __m256 out[Tokens][Panels][kHalves] = {};
  for (std::size_t k = 0; k < cols; ++k) {
    __m256 value[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) value[t] = _mm256_set1_ps(x[t * op.x_stride + k]);
#pragma GCC unroll 4
    for (int p = 0; p < Panels; ++p) {
      const auto* column = weights + (p * cols + k) * kPanelRows;
      _mm_prefetch(reinterpret_cast<const char*>(column) + kPrefetchBytes, _MM_HINT_T0);
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        const __m256 weight = Format::widen(column + h * kHalfRows);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) out[t][p][h] = _mm256_fmadd_ps(weight, value[t], out[t][p][h]);
      }
    }
  }

  for (int p = 0; p < Panels; ++p) {
    for (std::size_t h = 0; h < kHalves; ++h) {
      const std::size_t row = (panel + p) * kPanelRows + h * kHalfRows;
      if (row >= op.weights.rows) return;
      for (int t = 0; t < Tokens; ++t) {
        store_rows(op.out + (token + t) * op.out_stride + row, out[t][p][h], op.weights.rows - row);
      }
    }
  }
}

// By tokens.
template <class Format, int Panels>
constexpr Tiles<MatmulF> kTiles = {tile<Format, 1, Panels>, tile<Format, 2, Panels>, tile<Format, 3, Panels>};

template <class Format>
void matmul(const MatmulF& op, std::size_t begin, std::size_t end) {
  std::size_t panel = begin;
  for (; panel + 2 <= end; panel += 2) run_tiles(op, panel, kTiles<Format, 2>);
  if (panel < end) run_tiles(op, panel, kTiles<Format, 1>);
}

}  // namespace

void matmul_f(const MatmulF& op, std::size_t begin, std::size_t end) {
  switch (op.weights.type) {
    case CRIA_TYPE_F32:
      return matmul<F32>(op, begin, end);
    case CRIA_TYPE_F16:
      return matmul<F16>(op, begin, end);
    case CRIA_TYPE_BF16:
      return matmul<Bf16>(op, begin, end);
  }
}

}  // namespace cria::cpu::avx2
