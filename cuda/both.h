// CRIA_BOTH: a small function that the core and the kernels both call, in headers that know nothing else of CUDA.
#pragma once

#ifdef __CUDACC__
#define CRIA_BOTH __host__ __device__
#else
#define CRIA_BOTH
#endif
