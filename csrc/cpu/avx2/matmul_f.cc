#include <immintrin.h>

#include "../stream.h"
#include "finish.h"

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

// Three tokens by two panels are twelve sums, which leaves four of the sixteen registers for the operands.
constexpr std::size_t kTileTokens = 3;

// Tokens [token, token + Tokens) of `Count` panels.
//
// An output is one serial chain of four-cycle FMAs. Two panels at once make 4 chains at one token, one line of f32
// weights in 4 cycles from each panel, which is more than memory delivers; and 12 at three tokens, more than the 8 that
// fill two FMA pipes.
template <class Format, int Count, int Tokens>
void tile(const MatmulF& op, const std::size_t (&panel)[Count], std::size_t token) {
  const typename Format::Element* weights[Count];
  for (int p = 0; p < Count; ++p) weights[p] = panel_values<typename Format::Element>(op.weights, panel[p]);
  const float* x = op.x + token * op.x_stride;

  __m256 sum[Tokens][Count][kHalves] = {};
  for (std::size_t k = 0; k < op.weights.cols; ++k) {
    __m256 value[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) value[t] = _mm256_set1_ps(x[t * op.x_stride + k]);
#pragma GCC unroll 4
    for (int p = 0; p < Count; ++p) {
      const auto* column = weights[p] + k * kPanelRows;
      _mm_prefetch(reinterpret_cast<const char*>(column) + kPrefetchBytes, _MM_HINT_T0);
#pragma GCC unroll 2
      for (std::size_t h = 0; h < kHalves; ++h) {
        const __m256 weight = Format::widen(column + h * kHalfRows);
#pragma GCC unroll 4
        for (int t = 0; t < Tokens; ++t) sum[t][p][h] = _mm256_fmadd_ps(weight, value[t], sum[t][p][h]);
      }
    }
  }

#pragma GCC unroll 4
  for (int t = 0; t < Tokens; ++t) {
    if (op.out.finish == Finish::kSwiGlu) {
      finish_gated(op.out, panel[0], token + t, sum[t][0], sum[t][Count - 1]);
    } else {
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) finish_panel(op.weights, op.out, panel[p], token + t, sum[t][p]);
    }
  }
}

// By tokens.
template <class Format, int Count>
constexpr FloatTile<Count> kTiles[kTileTokens + 1] = {nullptr, tile<Format, Count, 1>, tile<Format, Count, 2>,
                                                      tile<Format, Count, 3>};

template <class Format>
void matmul(const MatmulF& op, std::size_t begin, std::size_t end) {
  run_float_tiles<kTileTokens>(op, begin, end, kTiles<Format, 2>, kTiles<Format, 1>);
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
