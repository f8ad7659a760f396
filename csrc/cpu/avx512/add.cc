#include "../add.h"

#include "tail.h"

namespace cria::cpu::avx512 {

void add(const Add& op, std::size_t begin, std::size_t end) {
  const std::size_t whole = op.dim / kLanes * kLanes;
  const __mmask16 rest = first_lanes(op.dim - whole);

  for (std::size_t row = begin; row < end; ++row) {
    const float* x = op.x + row * op.x_stride;
    const float* y = op.y + row * op.y_stride;
    float* out = op.out + row * op.out_stride;
    for (std::size_t c = 0; c < whole; c += kLanes) {
      _mm512_storeu_ps(out + c, _mm512_add_ps(_mm512_loadu_ps(x + c), _mm512_loadu_ps(y + c)));
    }
    const __m512 last = _mm512_add_ps(_mm512_maskz_loadu_ps(rest, x + whole), _mm512_maskz_loadu_ps(rest, y + whole));
    _mm512_mask_storeu_ps(out + whole, rest, last);
  }
}

}  // namespace cria::cpu::avx512
