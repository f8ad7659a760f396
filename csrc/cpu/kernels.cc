#include "kernels.h"

#include <string>

#include "../core/error.h"

namespace cria::cpu {
namespace {

constexpr Kernels kScalar = {
    .isa = CRIA_ISA_SCALAR,
    .embed = scalar::embed,
    .rmsnorm = scalar::rmsnorm,
    .quantize = scalar::quantize,
    .matmul_q4 = scalar::matmul_q4,
    .matmul_q8 = scalar::matmul_q8,
    .matmul_f = scalar::matmul_f,
    .rope = scalar::rope,
    .attention = scalar::attention,
    .attention_merge = scalar::attention_merge,
    .swiglu = scalar::swiglu,
    .add = scalar::add,
};

constexpr Kernels kAvx2 = {
    .isa = CRIA_ISA_AVX2,
    .embed = avx2::embed,
    .rmsnorm = avx2::rmsnorm,
    .quantize = avx2::quantize,
    .matmul_q4 = avx2::matmul_q4,
    .matmul_q8 = avx2::matmul_q8,
    .matmul_f = avx2::matmul_f,
    .rope = avx2::rope,
    .attention = avx2::attention,
    .attention_merge = avx2::attention_merge,
    .swiglu = avx2::swiglu,
    .add = avx2::add,
};

}  // namespace

bool isa_available(cria_isa isa) {
  // The compiler's test asks CPUID what the processor has, and XGETBV whether the system saves its registers.
  if (isa == CRIA_ISA_SCALAR) return true;
  if (isa == CRIA_ISA_AVX2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }
  return false;
}

cria_isa best_isa() { return isa_available(CRIA_ISA_AVX2) ? CRIA_ISA_AVX2 : CRIA_ISA_SCALAR; }

const Kernels& kernels(cria_isa isa) {
  if (isa == CRIA_ISA_AVX512) throw Error(CRIA_ERROR_UNSUPPORTED, "isa: avx512 has no kernels in this version");
  if (!isa_available(isa)) throw Error(CRIA_ERROR_UNSUPPORTED, "isa: this processor lacks avx2, fma or f16c");
  return isa == CRIA_ISA_AVX2 ? kAvx2 : kScalar;
}

}  // namespace cria::cpu
