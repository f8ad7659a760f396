#include "../attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../../core/half.h"
#include "../exp.h"
#include "../reduce.h"

namespace cria::cpu::scalar {
namespace {

// The running softmax of one row. From these values a first tile comes out as attention.h has it: its c is finite, so
// 0 c = 0 and fma(0, c, sum) = sum.
struct Softmax {
  float m = -std::numeric_limits<float>::infinity();
  float l = 0.0f;
  float o[kMaxHeadDim] = {};
};

float widen(float x) { return x; }
float widen(std::uint16_t half) { return half_to_float(half); }
float widen(std::int8_t quant) { return quant; }

float larger(float x, float m) { return x > m ? x : m; }  // as maxps: m where x is NaN

// What `place` of a block holds: element d stands at first + d * step. Of q8_0 it is the quant times its group's scale.
void read(cria_type type, const std::uint8_t* block, std::size_t dim, std::size_t place, std::size_t first,
          std::size_t step, float* out) {
  with_kv_element(type, [&](auto element) {
    const auto* x = reinterpret_cast<const decltype(element)*>(block) + first;
    for (std::size_t d = 0; d < dim; ++d) out[d] = widen(x[d * step]);
  });
  if (type != CRIA_TYPE_Q8_0) return;
  const std::uint16_t* scales = kv_scales(block, dim) + place;
  for (std::size_t d = 0; d < dim; ++d) out[d] *= half_to_float(scales[d / kBlock * kKvBlock]);
}

float score(const float* q, const float* k, std::size_t dim, float scale) {
  float dot = 0.0f;
  for (std::size_t d = 0; d < dim; ++d) dot = std::fma(q[d], k[d], dot);
  return dot * scale;
}

// Turns `n` scores into p, and rescales what came before to the new maximum.
void softmax(float* p, std::size_t n, std::size_t dim, Softmax& state) {
  float m = state.m;
  for (std::size_t j = 0; j < n; ++j) m = larger(p[j], m);
  float sum[kLanes] = {};
  for (std::size_t j = 0; j < n; ++j) {
    p[j] = exp_f32(p[j] - m);
    sum[j % kLanes] += p[j];
  }
  const float c = exp_f32(state.m - m);
  state.m = m;
  state.l = std::fma(state.l, c, sum_lanes(sum));
  for (std::size_t d = 0; d < dim; ++d) state.o[d] *= c;
}

// Keys [first, first + n) of a sequence: one tile.
void attend_tile(const Attention& op, const AttentionTask& task, const AttentionRow& row, std::size_t first,
                 std::size_t n, Softmax& state) {
  const KvLayer& cache = op.cache;
  const std::size_t dim = cache.head_dim;
  const std::int32_t* blocks = op.sequences[task.sequence].blocks + first / kKvBlock;
  float p[kKeyTile], k[kMaxHeadDim], v[kMaxHeadDim];
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t place = j % kKvBlock;
    read(cache.k.type, cache.k_head(blocks[j / kKvBlock], task.kv_head), dim, place, place, kKvBlock, k);
    p[j] = score(row.q, k, dim, op.scale);
  }
  softmax(p, n, dim, state);
  for (std::size_t j = 0; j < n; ++j) {
    const std::size_t place = j % kKvBlock;
    read(cache.v.type, cache.v_head(blocks[j / kKvBlock], task.kv_head), dim, place, place * dim, 1, v);
    for (std::size_t d = 0; d < dim; ++d) state.o[d] = std::fma(p[j], v[d], state.o[d]);
  }
}

Softmax attend_split(const Attention& op, const AttentionTask& task, const AttentionRow& row, std::size_t split) {
  const std::size_t end = std::min(row.keys, (split + 1) * kKeySplit);
  Softmax state;
  for (std::size_t first = split * kKeySplit; first < end; first += kKeyTile) {
    attend_tile(op, task, row, first, std::min(kKeyTile, end - first), state);
  }
  return state;
}

void merge(Softmax& state, float m2, float l2, const float* o2, std::size_t dim) {
  const float m = larger(m2, state.m);
  const float a = exp_f32(state.m - m), b = exp_f32(m2 - m);
  state.m = m;
  state.l = std::fma(state.l, a, l2 * b);
  for (std::size_t d = 0; d < dim; ++d) state.o[d] = std::fma(state.o[d], a, o2[d] * b);
}

void write(const Softmax& state, std::size_t dim, float* out) {
  const float scale = 1.0f / state.l;
  for (std::size_t d = 0; d < dim; ++d) out[d] = state.o[d] * scale;
}

void attend_whole(const Attention& op, const AttentionTask& task, const AttentionRow& row) {
  Softmax state = attend_split(op, task, row, 0);
  for (std::size_t split = 1; split * kKeySplit < row.keys; ++split) {
    const Softmax next = attend_split(op, task, row, split);
    merge(state, next.m, next.l, next.o, op.cache.head_dim);
  }
  write(state, op.cache.head_dim, row.out);
}

void store(const Softmax& state, std::size_t dim, float* partial) {
  partial[0] = state.m;
  partial[1] = state.l;
  std::memcpy(partial + 2, state.o, dim * sizeof(float));
}

}  // namespace

void attention(const Attention& op, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    const AttentionTask& task = op.tasks[t];
    for (std::size_t i = 0; i < attention_rows(op, task); ++i) {
      const AttentionRow row = attention_row(op, task, i);
      if (task.split < 0) {
        attend_whole(op, task, row);
      } else if (task.split * kKeySplit < row.keys) {
        store(attend_split(op, task, row, task.split), op.cache.head_dim, attention_partial(op, task.partial + i));
      }
    }
  }
}

void attention_merge(const Attention& op, std::size_t begin, std::size_t end) {
  const std::size_t dim = op.cache.head_dim;
  for (std::size_t i = begin; i < end; ++i) {
    const AttentionMerge& row = op.merges[i];
    Softmax state;
    for (std::size_t split = 0; split < row.splits; ++split) {
      const float* partial = attention_partial(op, row.first + split * row.step);
      if (split == 0) {
        state.m = partial[0];
        state.l = partial[1];
        std::memcpy(state.o, partial + 2, dim * sizeof(float));
      } else {
        merge(state, partial[0], partial[1], partial + 2, dim);
      }
    }
    write(state, dim, op.out + row.row * op.out_stride + row.head * dim);
  }
}

}  // namespace cria::cpu::scalar
