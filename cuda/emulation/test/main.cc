#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#include "core/half.h"
#include "cuda.cuh"
#include "gemm.h"

using namespace cria::cuda;

int main() {
  const int m = 128, n = 128, k = 256;
  unsigned short *a, *b;
  float* c;
  cudaMalloc(&a, m * k * 2);
  cudaMalloc(&b, n * k * 2);
  cudaMalloc(&c, m * n * 4);
  for (int i = 0; i < m * k; ++i) a[i] = cria::float_to_half((rand() % 2001 - 1000) / 1000.0f);
  for (int i = 0; i < n * k; ++i) b[i] = cria::float_to_half((rand() % 2001 - 1000) / 1000.0f);
  auto t = std::chrono::steady_clock::now();
  int s = emulation::test::gemm({a, b, c, m, n, k}, nullptr);
  double ms = std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count() * 1e3;
  printf("launch %d sync %d %.2f ms\n", s, cudaDeviceSynchronize(), ms);
  double worst = 0;
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int x = 0; x < k; ++x) sum += (double)cria::half_to_float(a[i * k + x]) * cria::half_to_float(b[j * k + x]);
      double d = std::fabs(sum - c[i * n + j]);
      if (!(d <= worst)) worst = d;
    }
  printf("worst %g\n", worst);
  for (auto& [name, x] : emulation::counters())
    printf("%s: %lu collectives, %lu mma, %lu conflicts of %lu, %lu bytes, %.0f ns/collective\n", name.c_str(),
           x.collectives, x.mma, x.ldmatrix_conflicts, x.ldmatrix, x.cp_async_bytes, ms * 1e6 / x.collectives);
}
