// Two panels by up to eight tokens: sixteen chains of fused multiply-adds, of the eight that keep two pipes busy at
// four cycles each, and a weight that is widened once serves eight tokens.
//
// bf16 weights are widened too: vdpbf16ps adds pairs of products in an order and with a rounding of its own, which
// would be other bits than the scalar kernel's.
#include <immintrin.h>

#include "../stream.h"
#include "finish.h"

namespace cria::cpu::avx512 {
namespace {

struct F32 {
  using Element = float;
  static __m512 widen(const float* p) { return _mm512_load_ps(p); }
};

struct F16 {
  using Element = std::uint16_t;
  static __m512 widen(const std::uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
  }
};

struct Bf16 {
  using Element = std::uint16_t;
  static __m512 widen(const std::uint16_t* p) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
};

constexpr std::size_t kMostTokens = 8;

// Tokens [token, token + Tokens) of `Count` panels.
template <class Format, int Count, int Tokens>
void tile(const MatmulF& op, const std::size_t (&panel)[Count], std::size_t token) {
  const typename Format::Element* weights[Count];
  for (int p = 0; p < Count; ++p) weights[p] = panel_values<typename Format::Element>(op.weights, panel[p]);
  const float* x = op.x + token * op.x_stride;

  __m512 sum[Tokens][Count];
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) sum[t][p] = _mm512_setzero_ps();
  }
  for (std::size_t k = 0; k < op.weights.cols; ++k) {
    __m512 weight[Count];
#pragma GCC unroll 2
    for (int p = 0; p < Count; ++p) {
      const auto* column = weights[p] + k * kPanelRows;
      _mm_prefetch(reinterpret_cast<const char*>(column) + kPrefetchBytes, _MM_HINT_T0);
      weight[p] = Format::widen(column);
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const __m512 value = _mm512_set1_ps(x[t * op.x_stride + k]);
#pragma GCC unroll 2
      for (int p = 0; p < Count; ++p) sum[t][p] = _mm512_fmadd_ps(weight[p], value, sum[t][p]);
    }
  }
#pragma GCC unroll 8
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
constexpr FloatTile<Count> kTiles[kMostTokens + 1] = {nullptr,
                                                      tile<Format, Count, 1>,
                                                      tile<Format, Count, 2>,
                                                      tile<Format, Count, 3>,
                                                      tile<Format, Count, 4>,
                                                      tile<Format, Count, 5>,
                                                      tile<Format, Count, 6>,
                                                      tile<Format, Count, 7>,
                                                      tile<Format, Count, 8>};

template <class Format>
void matmul(const MatmulF& op, std::size_t begin, std::size_t end) {
  run_float_tiles<kMostTokens>(op, begin, end, kTiles<Format, 2>, kTiles<Format, 1>);
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

}  // namespace cria::cpu::avx512
