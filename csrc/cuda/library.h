// Finds libcria_cuda.so, or the emulated one, and the reason why it cannot be used.
#pragma once

#include "../../cuda/plugin.h"
#include "../cria.h"

namespace cria::cuda {

// The plugin of CRIA_DEVICE_CUDA or CRIA_DEVICE_CUDA_EMULATED. Throws CRIA_ERROR_UNSUPPORTED with the reason: no
// driver, one that is too old, no GPU or none that is new enough, or no plugin beside the library.
const Plugin& load_plugin(cria_device_kind kind);

// What the first GPU is, without taking any of its memory, or why there is none.
cria_device_info describe(cria_device_kind kind);

}  // namespace cria::cuda
