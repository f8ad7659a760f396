#include <immintrin.h>

#include "../kv_move_runs.h"
#include "../quantize_block.h"

namespace cria::cpu::avx2 {
namespace {

struct Row {
  static void widen(const std::uint16_t* in, float* out) {
    for (std::size_t i = 0; i < kKvBlock; i += 8) {
      _mm256_store_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
    }
  }

  static void narrow(const float* in, std::uint16_t* out) {
    for (std::size_t i = 0; i < kKvBlock; i += 8) {
      const __m128i half = _mm256_cvtps_ph(_mm256_load_ps(in + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), half);
    }
  }

  static float quantize(const float* x, std::int8_t* quants) { return quantize_block_8(x, quants); }
};

}  // namespace

void kv_move(const KvMove& op, std::size_t begin, std::size_t end) { move_units<Row>(op, begin, end); }

}  // namespace cria::cpu::avx2
