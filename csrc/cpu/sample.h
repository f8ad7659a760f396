// From a row of logits to a token, as cria_program_decode does it on every device. It is the CUDA kernels'
// specification (cuda/sample.h), and they give its bits.
//
//     candidates   the k largest logits in descending order, ties by ascending id; NaN counts as -infinity, -0 as 0
//     kept         the fewest best whose softmax comes to at least top_p, as lib/sampling keeps them; all with top_p 1
//     drawn        of those the first at which the running sum of softmax's numerators, at the temperature, exceeds u
//                  times the whole. The sums are in f32, of exp((logit - largest) / temperature), with exp.h's exp
//
// u in [0, 1), in steps of 2^-24, is Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As
// Easy as 1, 2, 3") with the seed as its key and the position of the token that the logits follow as its counter: it
// depends on nothing drawn before. With temperature 0, or a largest logit that is infinite, the first candidate is it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cria::cpu {

struct Candidate {
  float logit;
  std::int32_t token;
};

// 1 <= k <= logits.size().
std::vector<Candidate> top_k(std::span<const float> logits, std::size_t k);

// Ten rounds over a counter of 128 bits with a key of 64.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

struct Sampling {
  float temperature;  // at least 0
  float top_p;        // above 0, at most 1
  std::uint64_t seed;
};

std::int32_t sample(std::span<const Candidate> candidates, const Sampling& how, std::int32_t position);

}  // namespace cria::cpu
