// Products with quantised weights: the bits of matmul.h's formula whatever kernel computes them, within 1e-5 of the
// scalar CPU kernel, and rows from the count on as they were. Here for few tokens; matmul_gemm.cc has the many.
#include "matmul_q.h"

namespace cria::cuda::check {
namespace {

// Every kernel, each with its capacity full and with fewer rows than that.
constexpr Batch kBatches[] = {{1, 1}, {1, 2}, {2, 2}, {3, 3}, {8, 8}, {9, 16}, {16, 16}, {17, 40}, {40, 40}};
constexpr int kMostTokens = 40;

void check_awkward(Checks& checks, cria_type type) {
  // One tile of rows, with a pair's second tile missing, and with one of a pair alone; half a superblock, fewer of them
  // than slices, and as many as need the ring of loads in flight twice over.
  for (const int rows : {1, 17, 33, 96}) {
    // Of K-quants the first is a block: fewer superblocks than slices, and slices that begin within a block.
    const bool large = weight_format(type).block > 32;
    for (const int cols : large ? std::vector<int>{256, 768, 2304} : std::vector<int>{32, 64, 96, 2080}) {
      QuantProduct product(checks, type, rows, cols, kMostTokens);
      product.check_with_cpu();
      for (const Batch batch : kBatches) product.check(batch, Finish::kStore);
      for (const Finish finish : finishes(rows)) {
        for (const Batch batch : {Batch{2, 2}, Batch{7, 8}, Batch{21, 24}}) product.check(batch, finish);
      }
    }
  }
  QuantProduct product(checks, type, 33, whole_blocks(type, 4192),
                       17);  // five superblocks a slice, and six: the ring's length in the GEMV
  for (const Batch batch : {Batch{1, 1}, Batch{2, 2}, Batch{5, 8}, Batch{13, 16}, Batch{17, 24}}) {
    product.check(batch, Finish::kStore);
    product.check_nan(batch);
  }
  product.check({0, 1}, Finish::kStore);
  product.check({0, 16}, Finish::kAdd);
}

// Of 7B: qkv, output, gate and up, down, logits. Of 70B: qkv, gate and up, down. Few tokens: the formula's plain loop
// takes the CPU half a second a token for the largest.
void check_real(Checks& checks, cria_type type) {
  static constexpr struct {
    int rows, cols;
    Finish finish;
  } kShapes[] = {{12288, 4096, Finish::kStore},  {4096, 4096, Finish::kAdd},    {22016, 4096, Finish::kSwiGlu},
                 {4096, 11008, Finish::kAdd},    {32000, 4096, Finish::kStore}, {10240, 8192, Finish::kStore},
                 {57344, 8192, Finish::kSwiGlu}, {8192, 28672, Finish::kAdd}};
  for (const auto& shape : kShapes) {
    QuantProduct product(checks, type, shape.rows, shape.cols, 20);
    product.check_with_cpu();
    for (const Batch batch : {Batch{1, 1}, Batch{2, 2}, Batch{8, 8}, Batch{15, 16}, Batch{20, 32}}) {
      product.check(batch, shape.finish);
    }
  }
}

}  // namespace

void check_matmul_q(Checks& checks) {
  for (const cria_type type : kQuantTypes) {
    check_awkward(checks, type);
    if (checks.real_shapes) check_real(checks, type);
  }
}

}  // namespace cria::cuda::check
