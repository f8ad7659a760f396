// Memory's limits with SSE2, which every x86-64 has.
#include "../limits.h"

#include <emmintrin.h>

namespace cria::cpu::scalar {

std::uint64_t read(const std::uint8_t* data, std::size_t lines) {
  __m128i sums[4] = {};
  for (const auto* at = reinterpret_cast<const __m128i*>(data); lines > 0; --lines, at += 4) {
    for (int i = 0; i < 4; ++i) sums[i] = _mm_add_epi64(sums[i], _mm_load_si128(at + i));
  }
  const __m128i all = _mm_add_epi64(_mm_add_epi64(sums[0], sums[1]), _mm_add_epi64(sums[2], sums[3]));
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(all));
}

// Past the caches: a plain store would first read the line that it writes.
void copy(const std::uint8_t* from, std::uint8_t* to, std::size_t lines) {
  auto* out = reinterpret_cast<__m128i*>(to);
  for (const auto* at = reinterpret_cast<const __m128i*>(from); lines > 0; --lines, at += 4, out += 4) {
    for (int i = 0; i < 4; ++i) _mm_stream_si128(out + i, _mm_load_si128(at + i));
  }
  _mm_sfence();
}

}  // namespace cria::cpu::scalar
