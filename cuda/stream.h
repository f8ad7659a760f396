// What the host knows of CUDA without its headers: an operation's outcome and the queue it goes to.
#pragma once

struct CUstream_st;

namespace cria::cuda {

using Status = int;           // a cudaError_t; 0 is success
using Stream = CUstream_st*;  // a cudaStream_t

}  // namespace cria::cuda
