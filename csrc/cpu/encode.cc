#include "encode.h"

#include "../core/encode.h"
#include "../core/weights.h"
#include "executor.h"
#include "parallel.h"

namespace cria::cpu {

void encode_rows(cria_type type, std::size_t rows, std::size_t cols, const float* x, std::uint8_t* out,
                 unsigned threads) {
  const std::size_t bytes = row_bytes(type, cols);
  parallel_for(rows, grain(cols * sizeof(float)), threads, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row) {
      require_fit(type, row, cols, x + row * cols);
      encode_row(type, cols, x + row * cols, out + row * bytes);
    }
  });
}

}  // namespace cria::cpu
