// Matrix products x W^T, for one token or many, with W packed as panel.h draws it, and what is done with them.
//
// Quantised weights meet activations quantised by quantize.h. u_k being a weight's unsigned quant, d and m its scale
// and minimum, x the activations' scale, for each output, over the blocks of 32 columns in ascending order, from 0:
//
//     q4_0, q5_0, q8_0, iq4_nl   sum = fma(float(dot), d x, sum)     dot = Σ_k u_k q_k - z Σ_k q_k
//                                                                    z is the zero point: 8, 16, 128, 128
//     q4_1, q5_1, q4_K, q5_K     sum = fma(float(dot), d x, sum)     dot = Σ_k u_k q_k; the d of a K-quant is d s
//                                sum = fma(-m / 8, float(-8 Σ_k q_k) x, sum)
//     q4_z                       the same, m being -d z, z the zero: exact in float32
//     q3_K, q6_K                 sum = fma(float(dot), d x, sum)     dot = Σ_h s_h (Σ_k u_k q_k - z Σ_k q_k) of
//                                                                    the two groups h of 16 columns; z is 4, 32
//     q2_K                       sum = fma(float(dot), d x, sum)     dot = Σ_h s_h Σ_k u_k q_k
//                                sum = fma(float(-least), e x, sum)     least = Σ_h m_h Σ_k q_k
//
// All that is integer is exact in int32, and below 2^24, so that its conversion is exact too; so are d s and m / 8.
//
// Float weights (f32, f16, bf16) are widened exactly and meet f32 activations: sum = fma(w_k, x_k, sum), ascending k,
// from 0.
//
// Every output has its own chain, so its bits depend on its row and its token alone. A finished sum is stored, added to
// what stands there (the residual stream), or, where the matrix is gate above up, goes through SwiGLU with its partner:
// the same operations as swiglu.h's and add.h's, without the trip through memory.
//
// Bound by memory at one token (4.5, 8.5, 16 or 32 bits a weight), by arithmetic from about 8 tokens on.
#pragma once

#include <cstddef>

#include "../core/finish.h"
#include "panel.h"
#include "quantize.h"

namespace cria::cpu {

struct MatmulOut {
  float* data;         // [tokens][weights.rows], with kSwiGlu [tokens][weights.rows / 2]
  std::size_t stride;  // floats from token to token
  Finish finish;       // kSwiGlu: half the rows are a multiple of 16, so that panels have partners
};

struct MatmulQ {
  Panels weights;  // of a quantised type
  QuantRows x;     // [tokens]
  std::size_t tokens;
  MatmulOut out;
};

struct MatmulF {
  Panels weights;  // f32, f16 or bf16
  const float* x;  // [tokens][weights.cols], tokens `x_stride` floats apart
  std::size_t x_stride, tokens;
  MatmulOut out;
};

// What a product is cut into: panels of 16 rows, or pairs of gate and up panels. Static, not inline: see reduce.h.
static inline std::size_t matmul_units(const Panels& weights, Finish finish) {
  return panel_count(weights.rows) / (finish == Finish::kSwiGlu ? 2 : 1);
}

// Calls pair(p, q) for the panels of units [begin, end), two by two, and single(p) for one that is left over. With
// SwiGLU each unit is a pair: gate and up.
template <class Pair, class Single>
static inline void for_panels(const Panels& weights, Finish finish, std::size_t begin, std::size_t end,
                              const Pair& pair, const Single& single) {
  std::size_t unit = begin;
  if (finish == Finish::kSwiGlu) {
    const std::size_t partner = panel_count(weights.rows) / 2;
    for (; unit < end; ++unit) pair(unit, unit + partner);
    return;
  }
  for (; unit + 2 <= end; unit += 2) pair(unit, unit + 1);
  if (unit < end) single(unit);
}

// Tokens go through many-token kernels in blocks as equal as can be, of at most `most`: calls block(first, count).
template <class Block>
static inline void for_token_blocks(std::size_t tokens, std::size_t most, const Block& block) {
  const std::size_t count = (tokens + most - 1) / most;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = tokens * i / count;
    block(first, tokens * (i + 1) / count - first);
  }
}

// A float product's kernel for some panels and, from `token` on, some tokens.
template <int Panels>
using FloatTile = void (*)(const MatmulF& op, const std::size_t (&panel)[Panels], std::size_t token);

// Units [begin, end) by the tiles for 1 to `most` tokens. Panels outermost: one of f16 weights and 4096 columns is 128
// KiB, which stays in L2 while the tokens pass.
template <std::size_t most>
static inline void run_float_tiles(const MatmulF& op, std::size_t begin, std::size_t end,
                                   const FloatTile<2> (&pairs)[most + 1], const FloatTile<1> (&singles)[most + 1]) {
  const auto pair = [&](std::size_t first, std::size_t second) {
    for_token_blocks(op.tokens, most, [&](std::size_t token, std::size_t count) {
      pairs[count](op, {first, second}, token);
    });
  };
  const auto single = [&](std::size_t panel) {
    for_token_blocks(op.tokens, most,
                     [&](std::size_t token, std::size_t count) { singles[count](op, {panel}, token); });
  };
  for_panels(op.weights, op.out.finish, begin, end, pair, single);
}

// Units [begin, end) of the weights, for all tokens.
namespace scalar {
void matmul_q4(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q8(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_0(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q2_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q3_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q6_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_iq4_nl(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_z(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_f(const MatmulF&, std::size_t begin, std::size_t end);
}  // namespace scalar
namespace avx2 {
void matmul_q4(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q8(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_0(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q2_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q3_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q6_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_iq4_nl(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_z(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_f(const MatmulF&, std::size_t begin, std::size_t end);
}  // namespace avx2
namespace avx512 {
void matmul_q4(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q8(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_0(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_1(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q2_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q3_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q5_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q6_k(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_iq4_nl(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q4_z(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_f(const MatmulF&, std::size_t begin, std::size_t end);
}  // namespace avx512

}  // namespace cria::cpu
