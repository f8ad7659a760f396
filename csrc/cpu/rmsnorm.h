// RMSNorm (Zhang and Sennrich 2019, eq. 4), as LLaMA applies it before attention, before the FFN and before the logits:
//
//     out[r][c] = x[r][c] * s(r) * weight[c],     s(r) = 1 / sqrt(mean over c of x[r][c]^2 + eps)
//
// The mean is a sum in the order of reduce.h, divided by dim; square root and division are IEEE's, not estimates.
// Bound by memory: a row is read twice, the second time from L1 (dim 8192 is 32 KiB), and written once.
#pragma once

#include <cstddef>

namespace cria::cpu {

// Rows that the vector kernels take together. A row's sum is one chain, in which each fused multiply-add waits four
// cycles for the one before: a second row fills some of them. Of four rows of 4,096 the second reading would no longer
// come from L1.
constexpr std::size_t kNormRows = 2;

struct RmsNorm {
  const float* x;       // [rows][dim], rows `x_stride` floats apart
  const float* weight;  // [dim]
  float* out;           // [rows][dim], rows `out_stride` floats apart; may be x itself, must not overlap it otherwise
  std::size_t dim;      // > 0
  std::size_t x_stride, out_stride;
  float eps;  // > 0; 1e-6 in LLaMA 7B-33B, 1e-5 in Llama-2
};

// Rows [begin, end): the slice of one thread.
namespace scalar {
void rmsnorm(const RmsNorm&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void rmsnorm(const RmsNorm&, std::size_t begin, std::size_t end);
}
namespace avx512 {
void rmsnorm(const RmsNorm&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
