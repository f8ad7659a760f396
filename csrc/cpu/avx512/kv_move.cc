#include <immintrin.h>

#include "../kv_move_runs.h"

namespace cria::cpu::avx512 {
namespace {

void widen(const std::uint16_t* in, float* out) {
  _mm512_store_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in))));
}

void narrow(const float* in, std::uint16_t* out) {
  const __m256i half = _mm512_cvtps_ph(_mm512_load_ps(in), _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), half);
}

}  // namespace

void kv_move(const KvMove& op, std::size_t begin, std::size_t end) { move_units(op, begin, end, widen, narrow); }

}  // namespace cria::cpu::avx512
