#include "kernels.h"

#include <cpuid.h>

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
    .matmul_q4_1 = scalar::matmul_q4_1,
    .matmul_q5_0 = scalar::matmul_q5_0,
    .matmul_q5_1 = scalar::matmul_q5_1,
    .matmul_q2_k = scalar::matmul_q2_k,
    .matmul_q3_k = scalar::matmul_q3_k,
    .matmul_q4_k = scalar::matmul_q4_k,
    .matmul_q5_k = scalar::matmul_q5_k,
    .matmul_q6_k = scalar::matmul_q6_k,
    .matmul_iq4_nl = scalar::matmul_iq4_nl,
    .matmul_q4_z = scalar::matmul_q4_z,
    .matmul_f = scalar::matmul_f,
    .rope = scalar::rope,
    .kv_move = scalar::kv_move,
    .attention = scalar::attention,
    .attention_merge = scalar::attention_merge,
    .prefix_attention = scalar::prefix_attention,
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
    .matmul_q4_1 = avx2::matmul_q4_1,
    .matmul_q5_0 = avx2::matmul_q5_0,
    .matmul_q5_1 = avx2::matmul_q5_1,
    .matmul_q2_k = avx2::matmul_q2_k,
    .matmul_q3_k = avx2::matmul_q3_k,
    .matmul_q4_k = avx2::matmul_q4_k,
    .matmul_q5_k = avx2::matmul_q5_k,
    .matmul_q6_k = avx2::matmul_q6_k,
    .matmul_iq4_nl = avx2::matmul_iq4_nl,
    .matmul_q4_z = avx2::matmul_q4_z,
    .matmul_f = avx2::matmul_f,
    .rope = avx2::rope,
    .kv_move = avx2::kv_move,
    .attention = avx2::attention,
    .attention_merge = avx2::attention_merge,
    .prefix_attention = avx2::prefix_attention,
    .swiglu = avx2::swiglu,
    .add = avx2::add,
};

// Ops without a file in avx512/ are those that AVX2 does as fast: embed waits for cache lines (embed.h).
constexpr Kernels kAvx512 = {
    .isa = CRIA_ISA_AVX512,
    .embed = avx2::embed,
    .rmsnorm = avx512::rmsnorm,
    .quantize = avx512::quantize,
    .matmul_q4 = avx512::matmul_q4,
    .matmul_q8 = avx512::matmul_q8,
    .matmul_q4_1 = avx512::matmul_q4_1,
    .matmul_q5_0 = avx512::matmul_q5_0,
    .matmul_q5_1 = avx512::matmul_q5_1,
    .matmul_q2_k = avx512::matmul_q2_k,
    .matmul_q3_k = avx512::matmul_q3_k,
    .matmul_q4_k = avx512::matmul_q4_k,
    .matmul_q5_k = avx512::matmul_q5_k,
    .matmul_q6_k = avx512::matmul_q6_k,
    .matmul_iq4_nl = avx512::matmul_iq4_nl,
    .matmul_q4_z = avx512::matmul_q4_z,
    .matmul_f = avx512::matmul_f,
    .rope = avx512::rope,
    .kv_move = avx512::kv_move,
    .attention = avx512::attention,
    .attention_merge = avx512::attention_merge,
    .prefix_attention = avx512::prefix_attention,
    .swiglu = avx512::swiglu,
    .add = avx512::add,
};

// Clang before 19 has no name for it. Its registers are AVX's.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace

// The compiler's tests ask CPUID what the processor has, and XGETBV whether the system saves its registers.
bool isa_available(cria_isa isa) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  switch (isa) {
    case CRIA_ISA_SCALAR:
      return true;
    case CRIA_ISA_AVX2:
      return avx2;
    case CRIA_ISA_AVX512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
    default:
      return false;
  }
}

cria_isa best_isa() {
  for (const cria_isa isa : {CRIA_ISA_AVX512, CRIA_ISA_AVX2}) {
    if (isa_available(isa)) return isa;
  }
  return CRIA_ISA_SCALAR;
}

const Kernels& kernels(cria_isa isa) {
  if (!isa_available(isa)) {
    throw Error(CRIA_ERROR_UNSUPPORTED, isa == CRIA_ISA_AVX2 ? "isa: this processor lacks avx2, fma or f16c"
                                                             : "isa: this processor lacks avx512f, bw, vl, dq or vnni");
  }
  return isa == CRIA_ISA_AVX512 ? kAvx512 : isa == CRIA_ISA_AVX2 ? kAvx2 : kScalar;
}

}  // namespace cria::cpu
