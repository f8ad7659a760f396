// The peaks of the instructions that AVX-512's kernels multiply with. The registers begin as zeros: what they held
// might be slow to calculate with.
#include "../limits.h"

namespace cria::cpu::avx512 {

void fma(std::size_t turns) {
  asm volatile(
      "vzeroall\n"
      "1:\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm0\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm1\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm2\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm3\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm4\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm5\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm6\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm7\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm8\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm9\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm10\n"
      "vfmadd231ps %%zmm12, %%zmm13, %%zmm11\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(turns)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

void dpbusd(std::size_t turns) {
  asm volatile(
      "vzeroall\n"
      "1:\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm0\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm1\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm2\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm3\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm4\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm5\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm6\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm7\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm8\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm9\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm10\n"
      "vpdpbusd %%zmm12, %%zmm13, %%zmm11\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(turns)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

// An assembler knows the instruction whatever instruction sets the file is compiled for.
void bf16dot(std::size_t turns) {
  asm volatile(
      "vzeroall\n"
      "1:\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm0\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm1\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm2\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm3\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm4\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm5\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm6\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm7\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm8\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm9\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm10\n"
      "vdpbf16ps %%zmm12, %%zmm13, %%zmm11\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(turns)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

}  // namespace cria::cpu::avx512
