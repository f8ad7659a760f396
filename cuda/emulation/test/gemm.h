// c[m][n] = a[m][k] b[n][k]^T, binary16 in, binary32 out: a kernel with every kind of synchronisation that sm_80 has,
// and the same kernel with one of them left out. m and n are multiples of 64, k of 32.
#pragma once

#include "stream.h"

namespace cria::cuda::emulation::test {

struct Gemm {
  const unsigned short *a, *b;
  float* c;
  int m, n, k;
};

enum class LeftOut { kNothing, kCommit, kWait, kBarrierAfterCopy, kBarrierBeforeCopy };

template <LeftOut kLeftOut>
Status gemm(const Gemm& op, Stream stream);

}  // namespace cria::cuda::emulation::test
