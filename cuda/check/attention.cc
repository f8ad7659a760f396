// Attention: near the scalar CPU kernel, and the same bits however a batch is cut up.
#include "../../csrc/cpu/attention.h"

#include <cmath>
#include <limits>

#include "batch.h"
#include "cache.h"

namespace cria::cuda::check {
namespace {

constexpr double kHalfTolerance = 1e-3, kFloatTolerance = 1e-5;  // attention.h's

struct Shape {
  cria_type k, v;
  std::size_t group, kv_heads, head_dim;
  std::vector<Lengths> lengths;
};

// A batch with its queries and cache, on both sides.
class Case {
 public:
  Case(Checks& checks, const Shape& shape)
      : checks_(checks),
        shape_(shape),
        batch_(checks, shape.lengths, capacity(shape)),
        cache_(checks, {shape.k, shape.v, 1, batch_.block_count, shape.kv_heads, shape.head_dim}),
        // As much as a layer's turned queries: scores of a few units.
        q_(checks.normal(static_cast<std::size_t>(capacity(shape)) * heads() * shape.head_dim, 2.0f)),
        device_q_(checks, q_) {}

  std::string name() const {
    std::string text = describe(cache_.shape) + " group " + std::to_string(shape_.group);
    for (const Lengths& length : shape_.lengths) {
      text += " " + std::to_string(length.past) + "+" + std::to_string(length.fresh);
    }
    return text;
  }

  // The CPU's outputs of all new tokens.
  std::vector<float> expected() {
    std::vector<cpu::AttentionSequence> sequences;
    std::vector<cpu::AttentionTask> tasks;
    for (std::size_t s = 0; s < batch_.sequences.size(); ++s) {
      const BatchSequence& sequence = batch_.sequences[s];
      sequences.push_back(
          {static_cast<std::size_t>(sequence.first), static_cast<std::size_t>(sequence.past), batch_.table(s)});
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
        tasks.push_back(
            {static_cast<std::uint32_t>(s), head, 0, static_cast<std::uint32_t>(shape_.lengths[s].fresh), -1, 0});
      }
    }
    std::vector<float> out(batch_.tokens * width());
    cpu::scalar::attention({q_.data(), width(), cache_.host_layer(), heads(), scale(), sequences.data(), tasks.data(),
                            nullptr, nullptr, out.data(), width()},
                           0, tasks.size());
    return out;
  }

  // The kernel's, of tiles of at most `queries` queries, of all rows of the capacity: those without a token stay as
  // they were, all ones. `split`: by attention and attention_merge.
  std::vector<float> actual(bool split, std::int32_t queries) {
    std::vector<AttentionTile> tiles;
    std::int32_t splits = 0;
    for (std::size_t s = 0; s < shape_.lengths.size(); ++s) {
      const Lengths& length = shape_.lengths[s];
      for (std::int32_t first = 0; first < length.fresh; first += queries) {
        tiles.push_back({static_cast<std::int32_t>(s), first, std::min(first + queries, length.fresh)});
      }
      splits = std::max(splits, (length.past + length.fresh + kKeySplit - 1) / kKeySplit);
    }
    const auto count = static_cast<int>(tiles.size());
    tiles.resize(tiles.size() + 2, {-1, -1, -1});  // of the capacity, and not of the batch
    if (!split) splits = 0;
    const DeviceArray<AttentionTile> device_tiles(checks_, tiles);
    const DeviceRows rows(checks_, count, static_cast<int>(tiles.size()));
    const DeviceArray<float> partials(
        checks_, static_cast<std::size_t>(splits) * batch_.rows().capacity * heads() * (2 + shape_.head_dim));
    const DeviceArray<float> out(checks_, q_.size());
    const Attention op = {device_q_.data(),
                          static_cast<std::int64_t>(width()),
                          cache_.device_layer(),
                          batch_.device(),
                          device_tiles.data(),
                          rows,
                          static_cast<int>(heads()),
                          scale(),
                          splits,
                          partials.data(),
                          batch_.rows(),
                          out.data()};
    checks_.require(checks_.plugin.attention(op, checks_.stream), "attention");
    if (split) checks_.require(checks_.plugin.attention_merge(op, checks_.stream), "attention_merge");
    return out.read();
  }
  std::vector<float> actual(bool split) {
    return actual(split, checks_.plugin.attention_queries(static_cast<int>(shape_.group), split));
  }

  TwinCache& cache() { return cache_; }
  const HostBatch& batch() const { return batch_; }
  std::size_t width() const { return heads() * shape_.head_dim; }
  double tolerance() const {
    return shape_.k == CRIA_TYPE_F32 || shape_.v == CRIA_TYPE_F32 ? kFloatTolerance : kHalfTolerance;
  }

 private:
  static std::int32_t capacity(const Shape& shape) {
    std::int32_t tokens = 2;
    for (const Lengths& length : shape.lengths) tokens += length.fresh;
    return tokens;
  }
  std::size_t heads() const { return shape_.group * shape_.kv_heads; }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  Checks& checks_;
  const Shape shape_;
  TestBatch batch_;
  TwinCache cache_;
  std::vector<float> q_;
  DeviceArray<float> device_q_;
};

void same(Checks& checks, const std::string& op, const Case& of, const std::vector<float>& expected,
          const std::vector<float>& actual) {
  checks.same_bits(op, of.name(), expected.data(), actual.data(), expected.size() * sizeof(float));
}

void check(Checks& checks, const Shape& shape) {
  Case c(checks, shape);
  const std::vector<float> whole = c.actual(false);
  const std::vector<float> expected = c.expected();
  checks.close("attention", c.name(), expected, std::span(whole).first(expected.size()), c.tolerance());
  const std::vector<float> unused(whole.begin() + expected.size(), whole.end());
  const std::vector<std::uint8_t> ones(unused.size() * sizeof(float), 0xff);
  checks.same_bits("attention unused rows", c.name(), ones.data(), unused.data(), ones.size());
  same(checks, "attention split", c, whole, c.actual(true));
  same(checks, "attention by single queries", c, whole, c.actual(false, 1));
  same(checks, "attention split by single queries", c, whole, c.actual(true, 1));
}

}  // namespace

void check_attention(Checks& checks) {
  constexpr cria_type kHalf = CRIA_TYPE_F16;
  for (const std::size_t head_dim : {8, 40, 64, 80, 128, 256}) check(checks, {kHalf, kHalf, 2, 1, head_dim, {{60, 7}}});
}

}  // namespace cria::cuda::check
