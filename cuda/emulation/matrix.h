// mma and ldmatrix: products of small matrices that a warp holds in registers, and their loads.
//
// Where an element is, by lane (g = lane / 4, t = lane % 4), of an m16n8 product with 32-bit registers of E elements
// (E = 4 int8, 2 binary16 or bfloat16; K = 8 E):
//
//     A[16][K]   register r: row g + 8 (r & 1), columns E t + 4 E (r >> 1) ... + E - 1
//     B[K][8]    register r: rows E t + 4 E r ... + E - 1, column g
//     C[16][8]   register r: row g + 8 (r >> 1), column 2 t + (r & 1)
#pragma once

#include <cstdint>

#include "site.h"

namespace cria::cuda::emulation {

/// c += a b, each m16n8: s8 k32 in int32, exact; f16 and bf16 k16 in binary32, ascending k.
void mma_s8(int (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site = Site::here());
void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site = Site::here());
void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site = Site::here());

/// s8 k16: the registers are those of the first 16 columns of k32.
inline void mma_s8_k16(int (&c)[4], const std::uint32_t (&a)[2], std::uint32_t b, Site site = Site::here()) {
  mma_s8(c, {a[0], a[1], 0, 0}, {b, 0}, site);
}

/// Lane 8 i + j brings the address of row j, 16 bytes, of matrix i; register i takes elements 2 t and 2 t + 1 of row g.
void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared, Site site = Site::here());
void ldmatrix_x2(std::uint32_t (&r)[2], const void* shared, Site site = Site::here());
/// Transposed: rows 2 t and 2 t + 1, column g.
void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared, Site site = Site::here());

/// c[16][8] += a[16][32] b[8][32], row-major: what mma and wgmma share.
void multiply_s8(int (&c)[16][8], const std::int8_t (&a)[16][32], const std::int8_t (&b)[8][32]);
/// The same in binary32 of a[16][16] b[8][16] of binary16.
void multiply_f16(float (&c)[16][8], const std::uint16_t (&a)[16][16], const std::uint16_t (&b)[8][16]);
/// The rows of A that a warp holds, register by register.
void place_a(std::int8_t (&a)[16][32], int lane, const std::uint32_t (&registers)[4]);

}  // namespace cria::cuda::emulation
