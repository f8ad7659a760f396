// What a kernel file includes: CUDA's own names, from its headers under nvcc, from the emulation under a host compiler.
//
// Shared memory is one struct of arrays a kernel, taken from shared_memory<Layout>(); `__shared__` variables are not
// used, so that the emulation sees where shared memory begins and ends.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "emulation/bf16.h"
#include "emulation/copies.h"
#include "emulation/half.h"
#include "emulation/intrinsics.h"
#include "emulation/loads.h"
#include "emulation/matrix.h"
#include "emulation/runtime.h"
#include "emulation/vectors.h"
#include "emulation/warp.h"
#include "emulation/wgmma.h"
#endif

#include <cstddef>
#include <cstdint>

namespace cria::cuda {

#ifdef __CUDACC__
/// The block's dynamic shared memory as the kernel's Layout. Its bytes are undefined at first. 128-byte aligned: a
/// whole row of banks, and what bulk copies and wgmma's core matrices ask for.
template <class Layout>
__device__ __forceinline__ Layout& shared_memory() {
  extern __shared__ __align__(128) unsigned char bytes[];
  return *reinterpret_cast<Layout*>(bytes);
}
#else
using emulation::shared_memory;
#endif

}  // namespace cria::cuda
