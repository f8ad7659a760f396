// cuda_fp16.h as far as the kernels use it. Every operation is done in binary32 and rounded once to nearest even.
#pragma once

#include <bit>
#include <cmath>

#include "core/half.h"
#include "vectors.h"

struct __half {
  unsigned short bits;
  __half() = default;
  __half(float value);
  operator float() const { return cria::half_to_float(bits); }
};

struct alignas(4) __half2 {
  __half x, y;
};

using half = __half;
using half2 = __half2;

inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }
inline short __half_as_short(__half value) { return static_cast<short>(value.bits); }
inline __half __short_as_half(short bits) { return std::bit_cast<__half>(bits); }

inline float __half2float(__half value) { return cria::half_to_float(value.bits); }
// CUDA has one NaN for all.
inline __half __float2half_rn(float value) {
  return __ushort_as_half(std::isnan(value) ? 0x7fff : cria::float_to_half(value));
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half::__half(float value) : bits(__float2half_rn(value).bits) {}

inline __half2 __halves2half2(__half low, __half high) { return {low, high}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline __half2 __floats2half2_rn(float low, float high) { return {__float2half_rn(low), __float2half_rn(high)}; }
inline __half2 __float2half2_rn(float value) { return __floats2half2_rn(value, value); }
inline __half2 __float22half2_rn(float2 value) { return __floats2half2_rn(value.x, value.y); }
inline float2 __half22float2(__half2 value) { return {__half2float(value.x), __half2float(value.y)}; }
inline __half __low2half(__half2 value) { return value.x; }
inline __half __high2half(__half2 value) { return value.y; }
inline float __low2float(__half2 value) { return __half2float(value.x); }
inline float __high2float(__half2 value) { return __half2float(value.y); }

inline __half __hadd(__half a, __half b) { return __float2half_rn(__half2float(a) + __half2float(b)); }
inline __half __hsub(__half a, __half b) { return __float2half_rn(__half2float(a) - __half2float(b)); }
inline __half __hmul(__half a, __half b) { return __float2half_rn(__half2float(a) * __half2float(b)); }
// In binary64, where product and sum of binary16 values are exact but for sums that binary16 could not tell apart.
inline __half __hfma(__half a, __half b, __half c) {
  const double exact = static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c);
  // Rounding to odd in binary32 keeps the second rounding, to binary16, right.
  float odd = static_cast<float>(exact);
  if (odd != exact && (std::bit_cast<unsigned>(odd) & 1) == 0) {
    odd = std::nextafterf(odd, exact > odd ? INFINITY : -INFINITY);
  }
  return __float2half_rn(odd);
}
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hsub2(__half2 a, __half2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
