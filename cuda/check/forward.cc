// A whole forward pass, recorded and run through cria.h on the GPU and on the CPU: a prompt, then decode steps of one,
// three and eight sequences, which follow the CPU's tokens on both; and decode steps past a split of attention's keys.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "checks.h"
#include "model.h"

namespace cria::cuda::check {
namespace {

constexpr int kSequences = 8;
constexpr std::size_t kContext = 64;  // tokens of a sequence at most
constexpr int kPastSplit = kKeySplit + 8;
constexpr int kSteps = 3;  // of decoding at each batch: the first is captured as a graph, the others replayed

// What logits may differ by, over the largest. Whatever an attention does to the last bits of its sums, the int8 that a
// later product takes its output as differs by whole steps where a value stood between two, and 1.3 million logits show
// the worst of it: an f16 cache instead of an f32 one gives 2.4e-2 on the CPU itself, a q8_0 one 3.1e-2, at any depth
// and width. A RoPE base that is a tenth off gives 5e-2.
constexpr double kTolerance = 4e-2;

// Of the 70B's 80 layers, for the CPU's time and memory: as much as the 7B has in all.
constexpr std::size_t kLayers70b = 8;

struct Best {
  std::int32_t token;
  float logit, margin;  // margin: what it is above the second
};

Best best_of(std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  float second = -INFINITY;
  for (auto logit = logits.begin(); logit != logits.end(); ++logit) {
    if (logit != best) second = std::fmax(second, *logit);
  }
  return {static_cast<std::int32_t>(best - logits.begin()), *best, *best - second};
}

// Both devices on their way through the same text.
class Comparison {
 public:
  Comparison(Checks& checks, cria_device_kind device, const ModelShape& shape, std::size_t context)
      : checks_(checks),
        shape_(shape),
        expected_(CRIA_DEVICE_CPU, shape, kSequences, context),
        actual_(device, shape, kSequences, context) {}

  void run() {
    step("prefill of 40", {{0, prompt(40)}}, Outputs::kAll);
    decode("decode of 1", 1);
    std::vector<NewTokens> prompts;
    for (int s = 1; s < kSequences; ++s) prompts.push_back({s, prompt(5 * s)});
    step("prefill of 5 to 35", prompts, Outputs::kLast);
    decode("decode of 3", 3);
    decode("decode of 8", kSequences);
    decode_on_device();
  }

  // With all sequences past the split attention's merge quantises, with some of them it does not.
  void run_past_split() {
    step("prefill past a split", {{0, prompt(kPastSplit)}}, Outputs::kLast);
    decode("decode of 1 past a split", 1);
    step("prefill of 5", {{1, prompt(5)}}, Outputs::kLast);
    decode("decode of 2, of which 1 past a split", 2);
  }

 private:
  std::vector<std::int32_t> prompt(int count) {
    std::uniform_int_distribution<std::int32_t> token(0, static_cast<std::int32_t>(shape_.vocabulary) - 1);
    std::vector<std::int32_t> tokens(count);
    for (std::int32_t& each : tokens) each = token(checks_.random);
    return tokens;
  }

  void decode(const char* name, int sequences) {
    for (int i = 0; i < kSteps; ++i) {
      std::vector<NewTokens> batch;
      for (int s = 0; s < sequences; ++s) batch.push_back({s, {next_[s]}});
      step(name, batch, Outputs::kLast);
    }
  }

  // Steps whose tokens stay on the device give the tokens of steps that do not, for the logits have the same bits.
  void decode_on_device() {
    std::vector<NewTokens> batch;
    for (int s = 0; s < kSequences; ++s) batch.push_back({s, {next_[s]}});
    const std::vector<std::int32_t> lengths = actual_.lengths();
    const std::vector<std::int32_t> there = actual_.decode(batch, kSteps);
    for (int s = 0; s < kSequences; ++s) actual_.set_length(s, lengths[s]);
    std::vector<std::int32_t> here(there.size());
    for (int i = 0; i < kSteps; ++i) {
      const std::span<const float> logits = actual_.run(batch, Outputs::kLast);
      for (int s = 0; s < kSequences; ++s) {
        const std::int32_t token = best_of(logits.subspan(s * shape_.vocabulary, shape_.vocabulary)).token;
        here[s * kSteps + i] = batch[s].tokens[0] = token;
      }
    }
    checks_.same_bits("forward", std::string(shape_.name) + ", decode on the device", here.data(), there.data(),
                      here.size() * sizeof(std::int32_t));
  }

  void step(const char* name, const std::vector<NewTokens>& batch, Outputs outputs) {
    const std::span<const float> expected = expected_.run(batch, outputs), actual = actual_.run(batch, outputs);
    if (expected.empty()) throw std::logic_error("a step without logits compares nothing");
    const std::string on = std::string(shape_.name) + ", " + std::to_string(shape_.layers) + " layers, " + name;
    checks_.close("forward", on, expected, actual, kTolerance);
    compare_greedy(on, expected, actual);

    const std::size_t width = shape_.vocabulary;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      const std::size_t row = outputs == Outputs::kLast ? i : batch[i].tokens.size() - 1;
      next_[batch[i].sequence] = best_of(expected.subspan(row * width, width)).token;
    }
  }

  // The likeliest tokens, but for those that lead by less than the tolerance allows both to differ.
  void compare_greedy(const std::string& on, std::span<const float> expected, std::span<const float> actual) {
    const std::size_t width = shape_.vocabulary;
    std::vector<std::int32_t> wanted, chosen;
    for (std::size_t at = 0; at < expected.size(); at += width) {
      const Best best = best_of(expected.subspan(at, width));
      if (best.margin <= 2 * kTolerance * std::fabs(best.logit)) continue;
      wanted.push_back(best.token);
      chosen.push_back(best_of(actual.subspan(at, width)).token);
    }
    checks_.same_bits("forward", on + ", greedy", wanted.data(), chosen.data(), wanted.size() * sizeof(std::int32_t));
  }

  Checks& checks_;
  const ModelShape shape_;
  Model expected_, actual_;
  std::int32_t next_[kSequences] = {};
};

// Of its layers as many as leave half of the memory alone: the CPU's, and the GPU's where that has less.
ModelShape cut_to_memory(ModelShape shape, cria_device_kind device) {
  std::uint64_t room = UINT64_MAX;
  for (const cria_device_kind kind : {cria_device_kind{CRIA_DEVICE_CPU}, device}) {
    cria_device_info info{};
    info.struct_size = sizeof(info);
    require_ok(cria_device_describe(kind, &info));
    if (info.available_bytes > 0) room = std::min(room, info.available_bytes / 2);
  }
  while (shape.layers > 1 && weight_bytes(shape) > room) --shape.layers;
  return shape;
}

}  // namespace

void check_forward(Checks& checks, cria_device_kind device) {
  if (!checks.real_shapes) {
    Comparison(checks, device, kModelTiny, kContext).run();
    Comparison(checks, device, kModelTiny, kPastSplit + kContext).run_past_split();
    return;
  }
  ModelShape cut70b = kModel70b;
  cut70b.layers = kLayers70b;
  for (const ModelShape& shape : {kModel7b, cut70b}) {
    Comparison(checks, device, cut_to_memory(shape, device), kContext).run();
  }
}

}  // namespace cria::cuda::check
