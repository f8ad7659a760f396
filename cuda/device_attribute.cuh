// What the GPU is, where a kernel is chosen by it.
#pragma once

#include "cuda.cuh"

namespace cria::cuda {

/// Of the first device that the process is shown, which is the plugin's; 0 where it does not say.
inline int device_attribute(cudaDeviceAttr name) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, name, 0) == cudaSuccess ? value : 0;
}

}  // namespace cria::cuda
