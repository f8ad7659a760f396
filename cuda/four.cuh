// Rows of floats, four columns to a thread: what the ops that are bound by memory or by a launch have in common.
//
// Arrays begin at multiples of 16 bytes, so where a row's width is a multiple of 4 its fours are loaded and stored 16
// bytes at once; else float by float. 2,048 threads of a multiprocessor with one four each under way are 32 KiB, and
// some 27 KiB keep 4.8 TB/s busy.
#pragma once

#include <cstdint>

#include "cuda.cuh"

namespace cria::cuda {

constexpr int kFourThreads = 256;
constexpr int kFourColumns = 4 * kFourThreads;  // of a block of threads

// A grid of (row, part of the row).
inline dim3 four_grid(int rows, int width) { return dim3(rows, (width + kFourColumns - 1) / kFourColumns); }

// The first column of this thread's four.
__device__ inline int four_column() { return blockIdx.y * kFourColumns + 4 * threadIdx.x; }

// Row `row` of [rows][width].
template <class T>
__device__ inline T* row_of(T* data, int row, int width) {
  return data + static_cast<std::int64_t>(row) * width;
}

// Columns from `width` on are zeros.
__device__ inline float4 load_four(const float* row, int column, int width) {
  if (width % 4 == 0) {
    return column < width ? *reinterpret_cast<const float4*>(row + column) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
  return make_float4(column < width ? row[column] : 0.0f, column + 1 < width ? row[column + 1] : 0.0f,
                     column + 2 < width ? row[column + 2] : 0.0f, column + 3 < width ? row[column + 3] : 0.0f);
}

// Columns from `width` on are not stored.
__device__ inline void store_four(float* row, int column, int width, float4 four) {
  if (width % 4 == 0) {
    if (column < width) *reinterpret_cast<float4*>(row + column) = four;
    return;
  }
  if (column < width) row[column] = four.x;
  if (column + 1 < width) row[column + 1] = four.y;
  if (column + 2 < width) row[column + 2] = four.z;
  if (column + 3 < width) row[column + 3] = four.w;
}

}  // namespace cria::cuda
