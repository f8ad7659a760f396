// Matrix products out = x W^T, for one token or many, with W packed as panel.h draws it.
//
// Quantised weights (q4_0, q8_0) meet activations quantised by quantize.h. For each output, over the blocks of 32
// columns in ascending order, from 0:
//
//     dot  = Σ_k (w_k + z) q_k - z sum            exact in int32; z is the weights' zero point, 8 or 128
//     out  = fma(float(dot), weight_scale * activation_scale, out)
//
// Float weights (f32, f16, bf16) are widened exactly and meet f32 activations: out = fma(w_k, x_k, out), ascending k,
// from 0.
//
// Every output has its own chain, so its bits depend on its row and its token alone.
//
// Bound by memory at one token (4.5, 8.5, 16 or 32 bits a weight), by arithmetic from about 8 tokens on.
#pragma once

#include <cstddef>

#include "panel.h"
#include "quantize.h"

namespace cria::cpu {

struct MatmulQ {
  Panels weights;  // q4_0 or q8_0
  QuantRows x;     // [tokens]
  std::size_t tokens;
  float* out;  // [tokens][weights.rows], tokens `out_stride` floats apart
  std::size_t out_stride;
};

struct MatmulF {
  Panels weights;  // f32, f16 or bf16
  const float* x;  // [tokens][weights.cols], tokens `x_stride` floats apart
  std::size_t x_stride, tokens;
  float* out;  // [tokens][weights.rows], tokens `out_stride` floats apart
  std::size_t out_stride;
};

// Panels [begin, end) of the weights, for all tokens.
namespace scalar {
void matmul_q4(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q8(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_f(const MatmulF&, std::size_t begin, std::size_t end);
}  // namespace scalar
namespace avx2 {
void matmul_q4(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_q8(const MatmulQ&, std::size_t begin, std::size_t end);
void matmul_f(const MatmulF&, std::size_t begin, std::size_t end);
}  // namespace avx2

}  // namespace cria::cpu
