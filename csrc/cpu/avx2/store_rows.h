// The end of every matrix kernel: eight outputs to memory, fewer where the matrix ends.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstring>

namespace cria::cpu::avx2 {

// Stores the first `rows` lanes, at most 8.
static inline void store_rows(float* out, __m256 lanes, std::size_t rows) {
  if (rows >= 8) return _mm256_storeu_ps(out, lanes);
  alignas(32) float buffer[8];
  _mm256_store_ps(buffer, lanes);
  std::memcpy(out, buffer, rows * sizeof(float));
}

}  // namespace cria::cpu::avx2
