// What the CUDA side and the core say to one another about the order of work and its failures, without CUDA's headers.
#pragma once

namespace cria::cuda {

using Status = int;  // a cudaError_t; 0: no failure
using Stream = struct CUstream_st*;

}  // namespace cria::cuda
