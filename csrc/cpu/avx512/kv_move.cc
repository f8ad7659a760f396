#include <immintrin.h>

#include "../kv_move_runs.h"
#include "../quantize_block.h"

namespace cria::cpu::avx512 {
namespace {

struct Row {
  static void widen(const std::uint16_t* in, float* out) {
    _mm512_store_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in))));
  }

  static void narrow(const float* in, std::uint16_t* out) {
    const __m256i half = _mm512_cvtps_ph(_mm512_load_ps(in), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), half);
  }

  static float quantize(const float* x, std::int8_t* quants) { return quantize_block_8(x, quants); }
};

}  // namespace

void kv_move(const KvMove& op, std::size_t begin, std::size_t end) { move_units<Row>(op, begin, end); }

}  // namespace cria::cpu::avx512
