// Where quantised rows stand: the arrays of QuantRows, one after another, each from a cache line on.
//
//     quants [blocks][32] | scales [blocks] | seeds [blocks] | sums [blocks]
#pragma once

#include <cstddef>

#include "memory.h"
#include "quantize.h"

namespace cria::cpu {

class QuantMemory {
 public:
  // What `rows` rows of `dim` columns take. Throws CRIA_ERROR_MEMORY where no size_t can say it.
  static std::size_t bytes(std::size_t rows, std::size_t dim);

  // Room for `rows` rows of `dim` columns; what it held is lost where it grows. Throws CRIA_ERROR_MEMORY.
  void grow(std::size_t rows, std::size_t dim);

  // Block by block, rows that it has room for.
  QuantRows rows(std::size_t rows, std::size_t dim) const;

  std::size_t bytes() const { return memory_.bytes(); }

 private:
  std::size_t blocks() const;

  Memory memory_;
};

}  // namespace cria::cpu
