// How an instruction set's kernel goes over tokens, and tells a table's types apart.
//
// A Tier has
//     widen_half(half)                                binary16 to float
//     embed_quantised<Superblock>(table, row, out)    a row of q4_0 or q8_0
//
// Static, not inline: see reduce.h.
#pragma once

#include "../core/half.h"
#include "embed.h"

namespace cria::cpu {

static inline float same(float value) { return value; }

// A column's 16 rows are half a cache line or a whole one: the lines bound this, not the one conversion from each.
template <class Element, float (*widen)(Element)>
static void embed_float(const Panels& table, std::size_t row, float* out) {
  const auto* panel = panel_values<Element>(table, row / kPanelRows);
  for (std::size_t c = 0; c < table.cols; ++c) out[c] = widen(panel[c * kPanelRows + row % kPanelRows]);
}

template <class Tier>
static void embed_row(const Panels& table, std::size_t row, float* out) {
  switch (table.type) {
    case CRIA_TYPE_F32:
      return embed_float<float, same>(table, row, out);
    case CRIA_TYPE_F16:
      return embed_float<std::uint16_t, Tier::widen_half>(table, row, out);
    case CRIA_TYPE_BF16:
      return embed_float<std::uint16_t, bf16_to_float>(table, row, out);
    case CRIA_TYPE_Q4_0:
      return Tier::template embed_quantised<Q4Superblock>(table, row, out);
    case CRIA_TYPE_Q8_0:
      return Tier::template embed_quantised<Q8Superblock>(table, row, out);
    default:
      return embed_decoded(table, row, out);
  }
}

template <class Tier>
static void embed_rows(const Embed& op, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    embed_row<Tier>(op.table, static_cast<std::size_t>(op.tokens[t]), op.out + t * op.out_stride);
  }
}

}  // namespace cria::cpu
