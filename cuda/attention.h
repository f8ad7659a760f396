// Causal attention in the flash style: the contract of csrc/cpu/attention.h (splits of 512 keys, tiles of 64, both
// counted from key 0, merged in order), with these differences:
//
// - exp is exp2, by ex2.approx, of scores in units of log2.
// - Over f16 and q8_0 caches q * scale * log2(e) is rounded to f16, an element of q8_0 is its quant times its scale,
//   rounded to f16, and the products are mma.m16n8k16 with f32 sums. p is rounded to f16 before it meets the values;
//   l adds up p that are not, in four sums over a split, the t-th of keys 8 i + 2 t and 8 i + 2 t + 1 in ascending
//   order, then (0 + 1) + (2 + 3). Results agree with the CPU's to 1e-3 of the largest.
// - Where K or V is f32 all is f32 (attention_f32.cuh). Results agree to 1e-5. So it is over f16 and q8_0, too, of more
//   than 128 dimensions on a GPU that gives a block of threads less than the 148 KiB of shared memory that the tiles
//   take then: sm_86 and sm_89, with 99 KiB.
//
// An output depends on its own query and keys alone: a key that a query does not see counts exactly nothing, be it NaN,
// so neither the other queries of a tile, nor the batch, nor whether splits are computed apart or one after another
// change a bit. (Of mma this takes that a product with 0 leaves a sum as it is.)
//
// Grouped queries: the rows of a tile are the queries of all heads of one kv head, token by token, so K and V are read
// once for all of them.
#pragma once

#include "kv.h"
#include "quant_rows.h"
#include "rows.h"
#include "stream.h"

namespace cria::cuda {

constexpr int kKeyTile = 64;
constexpr int kKeySplit = 512;

// New tokens [first_query, end_query) of a sequence.
struct AttentionTile {
  std::int32_t sequence, first_query, end_query;
  std::int32_t partial;  // the row of its first query in `partials`; of whole tiles unused
};

struct Attention {
  const float* q;         // [tokens][q_stride]: heads * head_dim, turned
  std::int64_t q_stride;  // floats
  KvLayer cache;
  DeviceBatch batch;
  const AttentionTile* tiles;  // on the device, as they are cut by the host: at most attention_queries() queries each
  Rows tile_rows;              // how many tiles
  int heads;
  float scale;  // 1 / sqrt(head_dim)
  int splits;   // 0: a block of threads takes all of a tile's splits one after another and writes `out`. Above 0: the
               // grid has as many splits a tile, each leaves m, l and o in `partials`, and attention_merge adds them up
  float* partials;   // [split][partial_rows][head][2 + head_dim]
  int partial_rows;  // at least the queries of all split tiles
  float* out;        // [tokens][heads * head_dim]
  // Not null: attention_merge also quantises the rows of `out` that it writes, by quantize.h's formula. The shape is
  // one that merge_quantizes().
  QuantRows quants;
};

// A warp of attention_merge has a row of one head: whole blocks of 32 columns, and none that fill a row up.
constexpr bool merge_quantizes(std::size_t heads, std::size_t head_dim) {
  return head_dim % kQuantBlock == 0 && heads * head_dim % kSuperblock == 0;
}

// The queries of a tile at most, for `group` query heads to a kv head: `split` or whole.
int attention_queries(int group, bool split);

Status attention(const Attention&, Stream);
Status attention_merge(const Attention&, Stream);

}  // namespace cria::cuda
