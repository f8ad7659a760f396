// What the scalar matrix kernels do with a sum once they have it; see matmul.h.
#pragma once

#include <algorithm>

#include "../matmul.h"
#include "../silu.h"

namespace cria::cpu::scalar {

// Units [begin, end); sum(row, token) is one output's.
template <class Sum>
static void finish_rows(const Panels& weights, const MatmulOut& out, std::size_t tokens, std::size_t begin,
                        std::size_t end, const Sum& sum) {
  const bool gated = out.finish == Finish::kSwiGlu;
  const std::size_t rows = gated ? weights.rows / 2 : weights.rows;
  for (std::size_t row = begin * kPanelRows; row < std::min(end * kPanelRows, rows); ++row) {
    for (std::size_t t = 0; t < tokens; ++t) {
      float& to = out.data[t * out.stride + row];
      const float value = sum(row, t);
      switch (out.finish) {
        case Finish::kStore:
          to = value;
          break;
        case Finish::kAdd:
          to += value;
          break;
        case Finish::kSwiGlu:
          to = silu(value) * sum(row + rows, t);
          break;
      }
    }
  }
}

}  // namespace cria::cpu::scalar
