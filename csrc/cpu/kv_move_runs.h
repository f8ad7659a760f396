// The walk of kv_move, for every instruction set: what differs is how sixteen elements become floats and back.
//
// Functions here are static: see reduce.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "attention.h"
#include "kv_move.h"
#include "kv_quantize.h"

namespace cria::cpu {

// A head's keys of one block, as floats.
struct KeyTile {
  alignas(64) float rows[kMaxHeadDim][kKvBlock];
};

// Dimensions [0, dims) of the keys of a head's block, all sixteen of each. Row::widen(in, out) makes sixteen floats of
// f16 elements.
template <class Row, class T>
static void load_keys(const std::uint8_t* block, std::size_t head_dim, std::size_t dims, KeyTile& tile) {
  const T* keys = reinterpret_cast<const T*>(block);
  alignas(64) float scales[kKvBlock];
  for (std::size_t d = 0; d < dims; ++d) {
    const T* in = keys + d * kKvBlock;
    float* out = tile.rows[d];
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(out, in, kKvBlock * sizeof(float));
    } else if constexpr (std::is_same_v<T, std::uint16_t>) {
      Row::widen(in, out);
    } else {
      if (d % kBlock == 0) Row::widen(kv_scales(block, head_dim) + d / kBlock * kKvBlock, scales);
      for (std::size_t token = 0; token < kKvBlock; ++token) out[token] = static_cast<float>(in[token]) * scales[token];
    }
  }
}

// The inverse of load_keys, of f32 or f16, for the keys of a run alone. Row::narrow is the inverse of Row::widen.
template <class Row, class T>
static void store_keys(const KeyTile& tile, std::size_t dims, const KvRun& run, T* keys) {
  alignas(64) T narrowed[kKvBlock];
  for (std::size_t d = 0; d < dims; ++d) {
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(narrowed, tile.rows[d], sizeof(narrowed));
    } else {
      Row::narrow(tile.rows[d], narrowed);
    }
    std::memcpy(keys + d * kKvBlock + run.to.place, narrowed + run.from.place, run.count * sizeof(T));
  }
}

// The same of q8_0, in whole groups. Row::quantize is quantize_block or its twin.
template <class Row>
static void quantize_keys(const KeyTile& tile, std::size_t head_dim, std::size_t dims, const KvRun& run,
                          std::uint8_t* block) {
  for (std::size_t d = 0; d < dims; d += kBlock) {
    const std::size_t count = std::min(kBlock, dims - d);
    auto* quants = reinterpret_cast<std::int8_t*>(block) + d * kKvBlock + run.to.place;
    std::uint16_t* scales = kv_scales(block, head_dim) + d / kBlock * kKvBlock + run.to.place;
    for (std::size_t token = 0; token < run.count; ++token) {
      float group[kBlock] = {};
      for (std::size_t i = 0; i < count; ++i) group[i] = tile.rows[d + i][run.from.place + token];
      scales[token] = kv_quantize_group(group, count, quants + token, kKvBlock, Row::quantize);
    }
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

// A run's elements of rows [begin, end), each of which has one of every token: dimensions of keys, or groups' scales.
template <class T>
static void copy_rows(const T* from, std::size_t begin, std::size_t end, const KvRun& run, T* to) {
  for (std::size_t row = begin; row < end; ++row) {
    std::memmove(to + row * kKvBlock + run.to.place, from + row * kKvBlock + run.from.place, run.count * sizeof(T));
  }
}

template <class Row, class T>
static void move_keys(const KvMove& op, std::size_t dim, const KvRun& run, const std::uint8_t* from, std::uint8_t* to) {
  constexpr bool kQuantised = std::is_same_v<T, std::int8_t>;
  // Dimensions that turn have their whole group quantised again.
  const std::size_t groups = kv_groups(op.rotary_dim);
  const std::size_t turned = kQuantised ? std::min(groups * kBlock, dim) : op.rotary_dim;
  if (turned > 0) {
    KeyTile tile;
    load_keys<Row, T>(from, dim, turned, tile);
    turn_keys(op, tile);
    if constexpr (kQuantised) {
      quantize_keys<Row>(tile, dim, turned, run, to);
    } else {
      store_keys<Row>(tile, turned, run, reinterpret_cast<T*>(to));
    }
  }
  copy_rows(reinterpret_cast<const T*>(from), turned, dim, run, reinterpret_cast<T*>(to));
  if (kQuantised) copy_rows(kv_scales(from, dim), groups, kv_groups(dim), run, kv_scales(to, dim));
}

template <class T>
static void move_values(std::size_t dim, const KvRun& run, const std::uint8_t* from, std::uint8_t* to) {
  const std::size_t row = dim * sizeof(T);
  std::memmove(to + run.to.place * row, from + run.from.place * row, run.count * row);
  if (std::is_same_v<T, std::int8_t>) copy_rows(kv_scales(from, dim), 0, kv_groups(dim), run, kv_scales(to, dim));
}

template <class Row>
static void move_units(const KvMove& op, std::size_t begin, std::size_t end) {
  for (std::size_t unit = begin; unit < end; ++unit) {
    const KvLayer& layer = op.layers[unit / op.kv_heads];
    const std::size_t head = unit % op.kv_heads, dim = layer.head_dim;
    for (std::size_t i = 0; i < op.run_count; ++i) {
      const KvRun& run = op.runs[i];
      with_kv_element(layer.k.type, [&](auto element) {
        move_keys<Row, decltype(element)>(op, dim, run, layer.k_head(run.from.block, head),
                                          layer.k_head(run.to.block, head));
      });
      with_kv_element(layer.v.type, [&](auto element) {
        move_values<decltype(element)>(dim, run, layer.v_head(run.from.block, head), layer.v_head(run.to.block, head));
      });
    }
  }
}

}  // namespace cria::cpu
