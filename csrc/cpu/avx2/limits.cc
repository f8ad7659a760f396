// What memory gives, and the peaks of the instructions that AVX2's kernels multiply with.
#include "../limits.h"

#include <immintrin.h>

#include "../stream.h"

namespace cria::cpu::avx2 {
namespace {

// How far ahead memory is asked for, as the matrix products do. On Zen 5 it makes one thread's worst passes better and
// leaves the best as they are: there 256 or 512 bits wide, one stream or eight, 2 to 18 KiB ahead or none, all come to
// the same bandwidth. 128 bits without it give one thread a tenth less.
constexpr std::size_t kAhead = kPrefetchBytes;

}  // namespace

std::uint64_t read(const std::uint8_t* data, std::size_t lines) {
  __m256i low = _mm256_setzero_si256(), high = low;
  for (const auto* at = reinterpret_cast<const __m256i*>(data); lines > 0; --lines, at += 2) {
    _mm_prefetch(reinterpret_cast<const char*>(at) + kAhead, _MM_HINT_T0);
    low = _mm256_add_epi64(low, _mm256_load_si256(at));
    high = _mm256_add_epi64(high, _mm256_load_si256(at + 1));
  }
  const __m256i both = _mm256_add_epi64(low, high);
  const __m128i sum = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(sum));
}

// Past the caches: a plain store would first read the line that it writes.
void copy(const std::uint8_t* from, std::uint8_t* to, std::size_t lines) {
  auto* out = reinterpret_cast<__m256i*>(to);
  for (const auto* at = reinterpret_cast<const __m256i*>(from); lines > 0; --lines, at += 2, out += 2) {
    _mm_prefetch(reinterpret_cast<const char*>(at) + kAhead, _MM_HINT_T0);
    _mm256_stream_si256(out, _mm256_load_si256(at));
    _mm256_stream_si256(out + 1, _mm256_load_si256(at + 1));
  }
  _mm_sfence();
}

// The registers begin as zeros: what they held might be slow to calculate with.
void fma(std::size_t turns) {
  asm volatile(
      "vzeroall\n"
      "1:\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm0\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm1\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm2\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm3\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm4\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm5\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm6\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm7\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm8\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm9\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm10\n"
      "vfmadd231ps %%ymm12, %%ymm13, %%ymm11\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(turns)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

// The product's register is renamed each time, so that only the sums are chains.
void maddubs(std::size_t turns) {
  asm volatile(
      "vzeroall\n"
      "1:\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm0, %%ymm0\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm1, %%ymm1\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm2, %%ymm2\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm3, %%ymm3\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm4, %%ymm4\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm5, %%ymm5\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm6, %%ymm6\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm7, %%ymm7\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm8, %%ymm8\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm9, %%ymm9\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm10, %%ymm10\n"
      "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n vpaddw %%ymm14, %%ymm11, %%ymm11\n"
      "dec %0\n"
      "jnz 1b\n"
      "vzeroupper\n"
      : "+r"(turns)
      :
      : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
        "xmm13", "xmm14", "xmm15");
}

}  // namespace cria::cpu::avx2
