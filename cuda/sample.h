// From logits to tokens without leaving the device.
//
//     top_k    the k largest logits of a row, in descending order, ties by ascending id;
//              NaN counts as -infinity, -0 as 0
//     sample   of those the fewest best whose softmax comes to at least top_p, as lib/sampling filters them;
//              of these a draw by their softmax at the temperature. With temperature 0 the first
//
// The draw u in [0, 1), in steps of 2^-24, is Philox 4x32-10 (Salmon et al. 2011) with the row's seed as its key and
// the position as its counter, so it depends on neither the batch nor the device. A softmax is in f32 over the
// candidates in their order, with exp.cuh's exp.
#pragma once

#include <cstdint>

#include "batch.h"
#include "rows.h"
#include "stream.h"

namespace cria::cuda {

constexpr int kMaxTopK = 64;

struct Candidate {
  float logit;
  std::int32_t token;
};

// Logits that a block of threads finds the k largest of; those of the parts of a vocabulary are then put together.
constexpr int kTopKPart = 2048;
constexpr int top_k_parts(int vocabulary) { return vocabulary / kTopKPart + (vocabulary % kTopKPart != 0); }

struct TopK {
  const float* logits;  // [rows][vocabulary]
  int vocabulary, k;    // 1 <= k <= min(vocabulary, kMaxTopK)
  Rows rows;
  Candidate* partial;  // [rows][top_k_parts(vocabulary)][k], room to work in; unused where there is one part
  Candidate* out;      // [rows][k]
};

// How a row is sampled.
struct Sampling {
  float temperature;  // at least 0
  float top_p;        // in (0, 1]; 1: all candidates
  std::uint64_t seed;
};

struct Sample {
  const Candidate* candidates;  // [rows][k]
  int k;
  const Sampling* sampling;       // [rows]
  const std::int32_t* positions;  // [rows] of the token that the logits follow
  Rows rows;
  std::int32_t* tokens;  // [rows]
};

// Moves a batch of decode steps on by one token each: row i is sequence i's only token. Its token becomes tokens[i],
// past and position count up, and the token is kept at history[step * rows.capacity + i].
struct Advance {
  const std::int32_t* sampled;  // [rows]
  std::int32_t* tokens;         // [rows]
  std::int32_t* positions;      // [rows]
  BatchSequence* sequences;     // [rows]
  std::int32_t* step;           // one counter; counted up once a launch
  std::int32_t* history;
  Rows rows;
};

Status top_k(const TopK&, Stream);
Status sample(const Sample&, Stream);
Status advance(const Advance&, Stream);

}  // namespace cria::cuda
