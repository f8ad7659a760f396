// Products of many tokens with quantised weights: the bits of matmul.h's formula, whatever kernel computes them, and
// rows from the count on as they were.
#include "matmul_q.h"

namespace cria::cuda::check {

void check_matmul_gemm(Checks& checks) {
  struct Size {
    int rows, cols, tokens, capacity;
  };
  // Row tiles and pairs of them that end in the middle of a block of threads; fewer superblocks than slices, and than
  // copies in flight; half a superblock; tokens that end in the middle of everything. Capacities up to 64, above, and
  // on Hopper those that are multiples of 4 take different kernels.
  static constexpr Size kAwkward[] = {
      {16, 32, 17, 17},  {48, 96, 40, 64},      {144, 576, 64, 64},    {96, 64, 1, 20},
      {144, 96, 65, 65}, {160, 576, 9, 130},    {288, 1184, 129, 131}, {144, 576, 100, 300},
      {96, 32, 68, 68},  {160, 1184, 131, 132}, {48, 704, 300, 300},   {256, 320, 300, 300},
  };
  // Few rows, for what they are compared with takes the CPU a second a billion.
  static constexpr Size kReal[] = {{1408, 4096, 512, 512}, {512, 11008, 509, 512}, {512, 4096, 511, 511}};
  const auto all = [&](const Size& size) {
    for (const cria_type type : kQuantTypes) {
      QuantProduct product(checks, type, size.rows, whole_blocks(type, size.cols), size.tokens);
      for (const Finish finish : finishes(size.rows)) product.check({size.tokens, size.capacity}, finish);
    }
  };
  for (const Size& size : kAwkward) all(size);
  if (checks.real_shapes) {
    for (const Size& size : kReal) all(size);
  }
}

}  // namespace cria::cuda::check
