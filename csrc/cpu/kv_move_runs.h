// The walk of kv_move, for every instruction set: what differs is how sixteen elements become floats and back.
#pragma once

#include <cmath>
#include <cstring>

#include "attention.h"
#include "kv_move.h"

namespace cria::cpu {

// A head's keys of one block, as floats.
struct KeyTile {
  alignas(64) float rows[kMaxHeadDim][kKvBlock];
};

// Dimensions [0, dims) of the keys of a head's block, all sixteen of each, and back those of a run, to its own places.
// widen(in, out) makes sixteen floats of elements; narrow(in, out) is its inverse.
template <class T, class Widen>
static void load_keys(const T* block, std::size_t dims, const Widen& widen, KeyTile& tile) {
  for (std::size_t d = 0; d < dims; ++d) widen(block + d * kKvBlock, tile.rows[d]);
}

template <class T, class Narrow>
static void store_keys(const KeyTile& tile, std::size_t dims, const KvRun& run, const Narrow& narrow, T* block) {
  for (std::size_t d = 0; d < dims; ++d) {
    T* row = block + d * kKvBlock;
    if (run.count == kKvBlock) {
      narrow(tile.rows[d], row);
      continue;
    }
    alignas(64) T narrowed[kKvBlock];
    narrow(tile.rows[d], narrowed);
    std::memcpy(row + run.to.place, narrowed + run.from.place, run.count * sizeof(T));
  }
}

// Pair by pair, as rope.h has it, sixteen keys at a time.
static inline void turn_keys(const KvMove& op, KeyTile& tile) {
  const std::size_t pairs = op.rotary_dim / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    float* first = tile.rows[op.halves ? i : 2 * i];
    float* second = tile.rows[op.halves ? i + pairs : 2 * i + 1];
    const float cosine = op.cosine[i], sine = op.sine[i];
    for (std::size_t token = 0; token < kKvBlock; ++token) {
      const float a = first[token], b = second[token];
      first[token] = std::fma(a, cosine, -(b * sine));
      second[token] = std::fma(a, sine, b * cosine);
    }
  }
}

template <class T>
static void copy_keys(const T* from, std::size_t begin, std::size_t end, const KvRun& run, T* to) {
  for (std::size_t d = begin; d < end; ++d) {
    std::memmove(to + d * kKvBlock + run.to.place, from + d * kKvBlock + run.from.place, run.count * sizeof(T));
  }
}

template <class T, class Widen, class Narrow>
static void move_runs(const KvMove& op, const KvLayer& layer, std::size_t head, const Widen& widen,
                      const Narrow& narrow) {
  const std::size_t dim = layer.head_dim;
  KeyTile tile;
  for (std::size_t i = 0; i < op.run_count; ++i) {
    const KvRun& run = op.runs[i];
    const T* keys = reinterpret_cast<const T*>(layer.k_head(run.from.block, head));
    T* out = reinterpret_cast<T*>(layer.k_head(run.to.block, head));
    if (op.rotary_dim > 0) {
      load_keys(keys, op.rotary_dim, widen, tile);
      turn_keys(op, tile);
      store_keys(tile, op.rotary_dim, run, narrow, out);
    }
    copy_keys(keys, op.rotary_dim, dim, run, out);

    const T* values = reinterpret_cast<const T*>(layer.v_head(run.from.block, head)) + run.from.place * dim;
    T* values_out = reinterpret_cast<T*>(layer.v_head(run.to.block, head)) + run.to.place * dim;
    std::memmove(values_out, values, run.count * dim * sizeof(T));
  }
}

// Widening and narrowing of f16 are the instruction set's.
template <class WidenHalf, class NarrowHalf>
static void move_units(const KvMove& op, std::size_t begin, std::size_t end, const WidenHalf& widen_half,
                       const NarrowHalf& narrow_half) {
  const auto copy = [](const float* in, float* out) { std::memcpy(out, in, kKvBlock * sizeof(float)); };
  for (std::size_t unit = begin; unit < end; ++unit) {
    const KvLayer& layer = op.layers[unit / op.kv_heads];
    const std::size_t head = unit % op.kv_heads;
    if (layer.type == CRIA_TYPE_F32) {
      move_runs<float>(op, layer, head, copy, copy);
    } else {
      move_runs<std::uint16_t>(op, layer, head, widen_half, narrow_half);
    }
  }
}

}  // namespace cria::cpu
