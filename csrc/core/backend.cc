#include "backend.h"

#include "../cpu/backend.h"
#include "../cuda/backend.h"
#include "error.h"

namespace cria {

std::shared_ptr<Backend> open_backend(const cria_device_options& options) {
  require(options.threads <= 256, "options.threads", "at most 256", options.threads);
  require(options.isa >= CRIA_ISA_AUTO && options.isa <= CRIA_ISA_AVX512, "options.isa", "one of cria_isa",
          options.isa);
  require(options.kind >= 0 && options.kind < CRIA_DEVICE_KINDS, "options.kind", "one of cria_device_kind",
          options.kind);
  if (options.kind != CRIA_DEVICE_CPU) return std::make_shared<cuda::CudaBackend>(options.kind);
  return std::make_shared<cpu::CpuBackend>(options.isa, options.threads);
}

}  // namespace cria
