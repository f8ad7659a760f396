#include "sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "exp.h"

namespace cria::cpu {

std::vector<Candidate> top_k(std::span<const float> logits, std::size_t k) {
  std::vector<Candidate> all(logits.size());
  for (std::size_t token = 0; token < logits.size(); ++token) {
    const float logit = logits[token];
    all[token] = {std::isnan(logit) ? -INFINITY : logit == 0.0f ? 0.0f : logit, static_cast<std::int32_t>(token)};
  }
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  };
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k), all.end(), before);
  all.resize(k);
  return all;
}

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = 0xd2511f53ull * c[0], b = 0xcd9e8d57ull * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return c;
}

namespace {

// Of softmax's numerators, in f32, one by one.
std::vector<float> running_sums(std::span<const Candidate> candidates, float temperature) {
  std::vector<float> sums;
  sums.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    sums.push_back(exp_f32((candidate.logit - candidates[0].logit) / temperature));
  }
  std::partial_sum(sums.begin(), sums.end(), sums.begin());
  return sums;
}

// The fewest best that have top_p of the probability at temperature 1.
std::span<const Candidate> nucleus(std::span<const Candidate> candidates, float top_p) {
  if (top_p == 1.0f) return candidates;
  const std::vector<float> sums = running_sums(candidates, 1.0f);
  const auto last = std::lower_bound(sums.begin(), sums.end(), top_p * sums.back());
  return candidates.first(static_cast<std::size_t>(last - sums.begin()) + 1);
}

}  // namespace

std::int32_t sample(std::span<const Candidate> candidates, const Sampling& how, std::int32_t position) {
  if (how.temperature == 0.0f || std::isinf(candidates[0].logit)) return candidates[0].token;
  const std::span<const Candidate> kept = nucleus(candidates, how.top_p);
  const std::vector<float> sums = running_sums(kept, how.temperature);
  const auto bits = philox({static_cast<std::uint32_t>(position)},
                           {static_cast<std::uint32_t>(how.seed), static_cast<std::uint32_t>(how.seed >> 32)});
  const float u = static_cast<float>(bits[0] >> 8) * 0x1p-24f;
  const auto drawn = std::upper_bound(sums.begin(), sums.end(), u * sums.back());
  return kept[static_cast<std::size_t>(drawn - sums.begin())].token;
}

}  // namespace cria::cpu
