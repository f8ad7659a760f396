// How the scales of quantised weights are found: by least squares.
//
// Weights x of a group become s q (+ b), with q whole numbers of few bits. What is asked of a scale is that the sum of
// (x - s q - b)^2 is least, for then a product with activations that are independent of the weights errs least. To
// given q the best s and b are those of a regression line; to given s and b the best q is the nearest whole number. So
// a few scales around the one that lets the largest weight just fit are tried: each gives quants, these a line, and the
// line that leaves the least error wins, which is then followed to where it and its quants agree.
//
// The reference (GGML's make_qx_quants and make_qkx2_quants, without an importance matrix) tries the same scales; it
// weighs errors by x^2 or |x|, and its formats of 32 weights but IQ4_NL try none.
//
// Sums are of four lanes and then across them, in the order written, and no multiply-add is fused: the bits are the
// same wherever this runs. Four lanes are a register of every x86-64 and every AArch64.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "weights.h"

namespace cria {

typedef float Lanes __attribute__((vector_size(16)));
constexpr std::size_t kLanes = 4;

// A group whose weights, or their range, are smaller is as good as zero (and 1 / this a number): GGML's bound.
constexpr float kNothing = 1e-15f;

static inline Lanes load(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof lanes);
  return lanes;
}

static inline Lanes splat(float value) { return Lanes{value, value, value, value}; }

static inline Lanes clamp(Lanes value, Lanes low, Lanes high) {
  value = value < low ? low : value;
  return value > high ? high : value;
}

// To the nearest whole number, ties to even, below 2^22 in magnitude: the sum has no bits for what is behind the point.
static inline Lanes nearest(Lanes value) {
  const Lanes shift = splat(0x1.8p23f);
  return (value + shift) - shift;
}

static inline float sum(Lanes lanes) { return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]); }

// Whole numbers that quants are among.
struct Range {
  float low, high;
};

// (x + minimum) / scale as the nearest in the range; `inverse` is 1 / scale.
static inline Lanes quants(Lanes x, float inverse, float minimum, Range range) {
  return nearest(clamp((x + splat(minimum)) * splat(inverse), splat(range.low), splat(range.high)));
}

// What makes quants of weights for a scale without a minimum: whole numbers in a range...
struct Uniform {
  Range range;
  Lanes operator()(Lanes x, float inverse) const { return quants(x, inverse, 0, range); }
};

// ... or the nearest of kIq4Values: each step whose middle lies below is climbed.
struct Iq4Steps {
  Lanes operator()(Lanes x, float inverse) const {
    const Lanes scaled = x * splat(inverse);
    Lanes value = splat(kIq4Values[0]);
    for (int i = 0; i < 15; ++i) {
      const float middle = 0.5f * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]);
      const float step = static_cast<float>(kIq4Values[i + 1] - kIq4Values[i]);
      value += scaled > splat(middle) ? splat(step) : splat(0);
    }
    return value;
  }
};

// The weight of the largest magnitude, the first of equal ones.
template <std::size_t N>
float extreme_of(const float* x) {
  float extreme = 0;
  for (std::size_t i = 0; i < N; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  return extreme;
}

// The line through zero from the quants that a scale leads to.
struct Slope {
  float scale, gain;  // gain: by how much it lessens the sum of x^2
};

template <std::size_t N, class Quantise>
Slope slope_at(const float* x, float inverse, const Quantise& quantise) {
  Lanes xq = {}, qq = {};
  for (std::size_t i = 0; i < N; i += kLanes) {
    const Lanes values = load(x + i), q = quantise(values, inverse);
    xq += values * q;
    qq += q * q;
  }
  const float products = sum(xq), squares = sum(qq);
  if (!(squares > 0)) return {0, 0};
  const float scale = products / squares;
  return {scale, scale * products};
}

// The scale of N weights without a minimum. The largest weight's quant is `low` first, which has a whole number more
// than the other side, and then some tenths of `tenth` to both sides of it; 0: nothing fits better than zeros.
template <std::size_t N, class Quantise>
float fit_scale(const float* x, float low, float tenth, const Quantise& quantise) {
  constexpr int kTries = 9;  // to either side, GGML's
  const float extreme = extreme_of<N>(x);
  if (!(std::fabs(extreme) > kNothing)) return 0;
  Slope best = slope_at<N>(x, low / extreme, quantise);
  for (int i = -kTries; i <= kTries; ++i) {
    const Slope slope = slope_at<N>(x, (low + tenth * static_cast<float>(i)) / extreme, quantise);
    if (slope.gain > best.gain) best = slope;
  }
  if (best.scale == 0) return 0;
  const Slope last = slope_at<N>(x, 1 / best.scale, quantise);
  return last.gain > best.gain ? last.scale : best.scale;
}

// A line: x is about scale q - minimum.
struct Line {
  float scale, minimum;
};

// How N weights with a minimum are searched: inverse scales (range.high + first + i / 10) / (max - min), for i below
// `tries`. Where `below_zero`, the minimum is at least 0, that is x = 0 is within reach.
struct LineSearch {
  Range range;
  float first;
  int tries;
  bool below_zero;
};

template <std::size_t N>
Line fit_line(const float* x, const LineSearch& search) {
  Lanes total = {};
  float least = x[0], most = x[0];
  for (std::size_t i = 0; i < N; i += kLanes) total += load(x + i);
  for (std::size_t i = 1; i < N; ++i) {
    if (x[i] < least) least = x[i];
    if (x[i] > most) most = x[i];
  }
  if (search.below_zero && least > 0) least = 0;
  if (!(most - least > kNothing)) return {0, -least};

  // The weights less their mean: their sums with quants are then small, and lose no digits.
  const float mean = sum(total) / N;
  float best_error = INFINITY;
  // The mean alone, where weights are so close together that its rounding puts it beyond them, and no line is found.
  Line best = {0, search.below_zero && mean > 0 ? 0 : -mean};
  const auto attempt = [&](float inverse, float minimum) {
    Lanes q_sum = {}, qq_sum = {}, qy_sum = {};
    for (std::size_t i = 0; i < N; i += kLanes) {
      const Lanes values = load(x + i), q = quants(values, inverse, minimum, search.range);
      q_sum += q;
      qq_sum += q * q;
      qy_sum += q * (values - splat(mean));
    }
    const float q = sum(q_sum), qq = sum(qq_sum), qy = sum(qy_sum);
    const float spread = qq - q * q / N;
    Line line = {spread > 0 ? qy / spread : 0, 0};
    line.minimum = line.scale * q / N - mean;
    float error = -line.scale * qy;  // less the sum of (x - mean)^2, which all have
    if (search.below_zero && line.minimum < 0) {
      const float qx = qy + mean * q;
      line = {qx / qq, 0};
      error = N * mean * mean - line.scale * qx;
    }
    if (!(error < best_error) || !(line.scale > 0)) return;
    best_error = error;
    best = line;
  };
  for (int i = 0; i < search.tries; ++i) {
    attempt((search.range.high + search.first + 0.1f * static_cast<float>(i)) / (most - least), -least);
  }
  if (best.scale > 0) attempt(1 / best.scale, best.minimum);
  return best;
}

// The sum of (x - scale q + minimum)^2 over N weights, at their nearest quants.
template <std::size_t N>
float error_of(const float* x, Line line, Range range) {
  const float inverse = line.scale == 0 ? 0 : 1 / line.scale;
  Lanes total = {};
  for (std::size_t i = 0; i < N; i += kLanes) {
    const Lanes values = load(x + i), q = quants(values, inverse, line.minimum, range);
    const Lanes off = values - (splat(line.scale) * q - splat(line.minimum));
    total += off * off;
  }
  return sum(total);
}

// The minimum that fits N weights and the scale best, at the quants that `minimum` leads to.
template <std::size_t N>
float refit_minimum(const float* x, Line line, Range range) {
  const float inverse = line.scale == 0 ? 0 : 1 / line.scale;
  Lanes total = {};
  for (std::size_t i = 0; i < N; i += kLanes) {
    const Lanes values = load(x + i);
    total += splat(line.scale) * quants(values, inverse, line.minimum, range) - values;
  }
  return sum(total) / N;
}

// The quants themselves.
template <std::size_t N>
void put_quants(const float* x, Line line, Range range, int* out) {
  const float inverse = line.scale == 0 ? 0 : 1 / line.scale;
  for (std::size_t i = 0; i < N; i += kLanes) {
    const Lanes q = quants(load(x + i), inverse, line.minimum, range);
    for (std::size_t lane = 0; lane < kLanes; ++lane) out[i + lane] = static_cast<int>(q[lane]);
  }
}

}  // namespace cria
