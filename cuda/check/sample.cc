#include "../../csrc/cpu/sample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "rows.h"

namespace cria::cuda::check {
namespace {

// --- top_k ---

// Values that meet the op's rules: ties, both zeros, infinities, NaN.
enum class Logits { kNormal, kFew, kEqual, kNotNumbers };

std::vector<float> logits_of(Checks& checks, Logits kind, std::size_t count) {
  std::vector<float> logits = checks.normal(count, 3.0f);
  const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, std::nanf(""), -std::nanf(""), 1e-45f, -1e-45f};
  for (float& logit : logits) {
    if (kind == Logits::kFew) logit = std::nearbyint(logit);
    if (kind == Logits::kEqual) logit = -1.5f;
    if (kind == Logits::kNotNumbers && checks.random() % 2) logit = odd[checks.random() % std::size(odd)];
  }
  return logits;
}

// The specification's candidates, in the device's struct.
std::vector<Candidate> sorted(const float* logits, int vocabulary, int k) {
  std::vector<Candidate> candidates;
  for (const auto& [logit, token] : cpu::top_k({logits, static_cast<std::size_t>(vocabulary)}, k)) {
    candidates.push_back({logit, token});
  }
  return candidates;
}

void check_top_k(Checks& checks, const RowShape& shape, int k, Logits kind) {
  const int vocabulary = shape.dim;
  std::vector<float> logits = logits_of(checks, kind, static_cast<std::size_t>(shape.count) * vocabulary);
  logits.resize(shape.room(), INFINITY);
  auto expected = poisoned<Candidate>(static_cast<std::size_t>(shape.capacity) * k);
  for (int row = 0; row < shape.count; ++row) {
    std::ranges::copy(sorted(&logits[static_cast<std::size_t>(row) * vocabulary], vocabulary, k), &expected[row * k]);
  }
  const DeviceArray<float> device_logits(checks, logits);
  const std::size_t room = static_cast<std::size_t>(shape.capacity) * k;
  const DeviceArray<Candidate> partial(checks, room * top_k_parts(vocabulary)), out(checks, room);
  const DeviceRows rows(checks, shape.count, shape.capacity);
  checks.require(
      checks.plugin.top_k({device_logits.data(), vocabulary, k, rows, partial.data(), out.data()}, checks.stream),
      "top_k");
  same_array(checks, "top_k " + std::to_string(k), shape.name(), expected, out);
}

void check_top_k(Checks& checks) {
  for (const Logits kind : {Logits::kNormal, Logits::kFew, Logits::kEqual, Logits::kNotNumbers}) {
    for (const int vocabulary : {1, 31, 64, 100, 2048, 2049, 5000}) {
      for (const int k : {1, 2, 40, kMaxTopK}) {
        if (k <= vocabulary) check_top_k(checks, {vocabulary == 100 ? 2 : 1, 2, vocabulary}, k, kind);
      }
    }
    check_top_k(checks, {0, 1, 100}, 5, kind);
  }
  check_top_k(checks, {1, 1, 70000}, kMaxTopK, Logits::kFew);  // the parts' candidates are more than a block holds
  if (!checks.real_shapes) return;
  for (const int vocabulary : {32000, 128256}) {
    for (const int k : {1, 40, kMaxTopK}) check_top_k(checks, {60, 64, vocabulary}, k, Logits::kNormal);
  }
}

// --- sample ---

using Counter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

// The vectors that its authors publish (Random123, kat_vectors).
void check_philox(Checks& checks) {
  constexpr std::uint32_t kOnes = 0xffffffff;
  const struct {
    Counter counter;
    PhiloxKey key;
    Counter expected;
  } vectors[] = {
      {{}, {}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto& vector : vectors) {
    const Counter actual = cpu::philox(vector.counter, vector.key);
    checks.same_bits("philox", "published", vector.expected.data(), actual.data(), sizeof actual);
  }
}

std::int32_t sampled(std::span<const Candidate> candidates, const Sampling& how, std::int32_t position) {
  std::vector<cpu::Candidate> same;
  for (const auto& [logit, token] : candidates) same.push_back({logit, token});
  return cpu::sample(same, {how.temperature, how.top_p, how.seed}, position);
}

// What the device samples of rows of candidates.
std::vector<std::int32_t> sample_on_device(Checks& checks, int k, int capacity,
                                           const std::vector<Candidate>& candidates,
                                           const std::vector<Sampling>& sampling,
                                           const std::vector<std::int32_t>& positions) {
  const DeviceArray<Candidate> device_candidates(checks, candidates);
  const DeviceArray<Sampling> device_sampling(checks, sampling);
  const DeviceArray<std::int32_t> device_positions(checks, positions), tokens(checks, capacity);
  const DeviceRows rows(checks, static_cast<int>(positions.size()), capacity);
  checks.require(checks.plugin.sample({device_candidates.data(), k, device_sampling.data(), device_positions.data(),
                                       rows, tokens.data()},
                                      checks.stream),
                 "sample");
  return tokens.read();
}

void check_sampled(Checks& checks, int k) {
  constexpr int kRows = 40, kCapacity = 43;
  std::vector<Candidate> candidates;
  std::vector<Sampling> sampling;
  std::vector<std::int32_t> positions;
  auto expected = poisoned<std::int32_t>(kCapacity);
  for (int row = 0; row < kRows; ++row) {
    std::vector<float> logits = checks.normal(100, 2.0f);
    if (row == 7) std::ranges::fill(logits, -INFINITY);
    if (row == 8) logits[50] = INFINITY;
    if (row == 9) std::fill(logits.begin() + 1, logits.end(), -INFINITY);
    const std::vector<Candidate> best = sorted(logits.data(), 100, k);
    candidates.insert(candidates.end(), best.begin(), best.end());
    const float temperatures[] = {0.0f, 0.2f, 0.8f, 1.0f, 5.0f}, top_ps[] = {1.0f, 0.95f, 0.5f, 1e-6f};
    sampling.push_back({temperatures[row % 5], top_ps[row % 4], checks.random() * 0x100000001ull + row});
    positions.push_back(row == 3 ? INT32_MAX : row * row);
    expected[row] = sampled(best, sampling.back(), positions.back());
  }
  const std::vector<std::int32_t> tokens = sample_on_device(checks, k, kCapacity, candidates, sampling, positions);
  checks.same_bits("sample", "k " + std::to_string(k), expected.data(), tokens.data(), expected.size() * 4);
}

// Pearson's chi-square of how often each of five tokens is drawn at 2,000 positions, against softmax in float64.
void check_distribution(Checks& checks) {
  constexpr int kCandidates = 5, kDraws = 2000;
  constexpr double kLimit = 18.47;  // with 4 degrees of freedom, exceeded by chance once in 1,000
  const std::vector<Candidate> row = {{2.0f, 11}, {1.5f, 3}, {1.0f, 7}, {0.0f, 2}, {-1.0f, 5}};
  const float temperature = 1.3f;
  std::vector<Candidate> candidates;
  std::vector<std::int32_t> positions(kDraws);
  std::iota(positions.begin(), positions.end(), 100);
  for (int i = 0; i < kDraws; ++i) candidates.insert(candidates.end(), row.begin(), row.end());
  const std::vector<std::int32_t> tokens = sample_on_device(
      checks, kCandidates, kDraws, candidates, std::vector<Sampling>(kDraws, {temperature, 1.0f, 42}), positions);

  double total = 0.0, chi_square = 0.0;
  for (const Candidate& candidate : row) total += std::exp(candidate.logit / temperature);
  for (const Candidate& candidate : row) {
    const double expected = kDraws * std::exp(candidate.logit / temperature) / total;
    const double drawn = static_cast<double>(std::ranges::count(tokens, candidate.token));
    chi_square += (drawn - expected) * (drawn - expected) / expected;
  }
  const bool fits = true, actual = chi_square < kLimit;
  checks.same_bits("sample", "chi-square " + std::to_string(chi_square), &fits, &actual, sizeof fits);
}

// --- advance ---

void check_advance(Checks& checks) {
  constexpr int kRows = 3, kCapacity = 5, kSteps = 4, kFirstStep = 1;
  std::vector<std::int32_t> tokens = {1, 2, 3, 4, 5}, positions = {10, 0, 7, 8, 9};
  std::vector<BatchSequence> sequences = {{0, 10, 0}, {1, 0, 4}, {2, 7, 8}, {3, 8, 12}, {4, 9, 16}};
  const DeviceArray<std::int32_t> device_tokens(checks, tokens), device_positions(checks, positions);
  const DeviceArray<BatchSequence> device_sequences(checks, sequences);
  const DeviceArray<std::int32_t> step(checks, std::vector<std::int32_t>{kFirstStep});
  const DeviceArray<std::int32_t> history(checks, kSteps * kCapacity);
  auto expected_history = poisoned<std::int32_t>(kSteps * kCapacity);
  const DeviceRows rows(checks, kRows, kCapacity);

  for (int s = 0; s < 2; ++s) {
    auto sampled = poisoned<std::int32_t>(kCapacity);
    for (int row = 0; row < kRows; ++row) {
      sampled[row] = tokens[row] = expected_history[(kFirstStep + s) * kCapacity + row] = 100 * s + row;
      ++positions[row];
      ++sequences[row].past;
    }
    const DeviceArray<std::int32_t> device_sampled(checks, sampled);
    checks.require(checks.plugin.advance({device_sampled.data(), device_tokens.data(), device_positions.data(),
                                          device_sequences.data(), step.data(), history.data(), rows},
                                         checks.stream),
                   "advance");
    same_array(checks, "advance", "tokens", tokens, device_tokens);
    same_array(checks, "advance", "positions", positions, device_positions);
    same_array(checks, "advance", "sequences", sequences, device_sequences);
    same_array(checks, "advance", "history", expected_history, history);
    same_array(checks, "advance", "step", std::vector<std::int32_t>{kFirstStep + s + 1}, step);
  }
}

}  // namespace

void check_sample(Checks& checks) {
  check_top_k(checks);
  check_philox(checks);
  for (const int k : {1, 2, 31, 32, 33, kMaxTopK}) check_sampled(checks, k);
  check_distribution(checks);
  check_advance(checks);
}

}  // namespace cria::cuda::check
