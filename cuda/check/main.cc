// Every kernel against the scalar CPU kernels.
#include <cstdio>
#include <exception>

#include "checks.h"

using namespace cria::cuda;
using namespace cria::cuda::check;

int main() {
  const Plugin& plugin = *cria_cuda_plugin();
  DeviceFacts facts;
  if (const Status status = plugin.open(&facts); status != 0) {
    std::fprintf(stderr, "%s\n", plugin.describe(status));
    return 1;
  }
  try {
    Checks checks(plugin, false);
    for (const auto check :
         {check_embed, check_rmsnorm, check_quantize, check_matmul_q, check_matmul_gemm, check_matmul_f, check_rope,
          check_kv_move, check_attention, check_swiglu, check_add, check_select, check_sample}) {
      check(checks);
    }
    for (const Result& result : checks.results()) {
      if (!result.passed) return 1;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
