// Embedding: the rows of a packed table (panel.h) that the tokens name, widened to f32.
//
//     out[t] = table[tokens[t]],   a quantised weight being float(scale) * float(q)
//
// A table that is also the output matrix is held once, in the layout that the product wants; a row is gathered from it,
// 4 bytes of each cache line. Bound by those line reads, at one row a token: 2,048 columns of q4_0 are 9 KiB of lines.
#pragma once

#include <cstddef>
#include <cstdint>

#include "panel.h"

namespace cria::cpu {

struct Embed {
  Panels table;                // any type
  const std::int32_t* tokens;  // each in [0, table.rows)
  float* out;                  // [tokens][table.cols], tokens `out_stride` floats apart
  std::size_t out_stride;
};

// A row of one of the types that have no way of their own, block by block as a file has it: a few nanoseconds a weight,
// which in a prompt is a thousandth of what the products take.
void embed_decoded(const Panels& table, std::size_t row, float* out);

// Tokens [begin, end).
namespace scalar {
void embed(const Embed&, std::size_t begin, std::size_t end);
}
namespace avx2 {
void embed(const Embed&, std::size_t begin, std::size_t end);
}

}  // namespace cria::cpu
