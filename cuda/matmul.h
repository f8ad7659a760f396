// Matrix products x W^T, for one token or many, and what is done with them (csrc/core/finish.h).
//
// A product has the same bits whatever kernel computes it and however many rows the batch has, so the choice between
// them is one of speed alone. Over quantised weights, for one output:
//
//     the columns' superblocks of 64 are cut in eight slices, slice s being [s n / 8, (s + 1) n / 8) of n
//     slice    from 0, over its blocks of 32 columns in ascending order:
//                dot = Σ_k w_k q_k                           exact in int32, as on the CPU
//                sum = fma(float(dot), weight_scale * activation_scale, sum)
//              Of q4_K and q5_K, whose weights are scale * integer scale * quant - minimum * integer minimum, w is the
//              quant, weight_scale the product of both scales, and then
//                sum = fma(-(minimum * integer minimum), float(Σ_k q_k) * activation_scale, sum)
//              Of q6_K weight_scale is the scale, and dot the sum of integer scale * Σ_k w_k q_k of its two groups of
//              16 columns. Those products of scales are exact, and so is the float of dot, which is below 2^24.
//     output   ((slice 0 + slice 1) + slice 2) + ...
//
// Eight slices are eight warps that read a matrix of few rows for few tokens; a kernel for many tokens takes them one
// after another. The CPU has one slice: results agree to 1e-5 of the largest.
//
// f16 and bf16 weights meet activations rounded to their own type in mma.m16n8k16, whose sums of 16 products are the
// hardware's own; steps of 16 columns are cut in eight slices likewise. f32 weights meet f32 activations in one chain
// of fma over ascending k, as on the CPU, bit for bit.
//
// Bound by memory up to some 16 tokens, by the scaling of the dot products (3 fp32 instructions each) in prefill.
#pragma once

#include <cstdint>

#include "../csrc/core/finish.h"
#include "both.h"
#include "quant_rows.h"
#include "rows.h"
#include "stream.h"
#include "weights.h"

namespace cria::cuda {

constexpr int kSlices = 8;

// The first unit (superblock, or step) of a slice of n.
CRIA_BOTH constexpr int slice_begin(int slice, int n) { return slice * n / kSlices; }

struct MatmulOut {
  float* data;          // [rows of x][weights.rows], with kSwiGlu [rows of x][weights.rows / 2]
  std::int64_t stride;  // floats from row to row
  Finish finish;        // kSwiGlu: half the weights' rows are a multiple of 16
};

struct MatmulQ {
  Weights weights;  // q4_0, q8_0, q4_K, q5_K or q6_K
  QuantRows x;
  Rows rows;
  MatmulOut out;
};

struct MatmulF {
  Weights weights;  // f32, f16 or bf16
  const float* x;   // [rows][weights.cols]
  Rows rows;
  MatmulOut out;
};

// Each chooses by rows.capacity: a GEMV for 1 and 2, a narrow tile up to 16, a GEMM above.
Status matmul_q(const MatmulQ&, Stream);
Status matmul_f(const MatmulF&, Stream);

}  // namespace cria::cuda
