// The last, partial vector of a row: a masked load reads zero past its end and, like a masked store, touches no memory
// there.
#pragma once

#include <immintrin.h>

#include <cstddef>

#include "../reduce.h"

namespace cria::cpu::avx512 {

// The first n of 16 lanes; all of them from 16 on.
static inline __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n < kLanes ? (1u << n) - 1 : 0xffff);
}

}  // namespace cria::cpu::avx512
