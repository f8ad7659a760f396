// Attention: near the scalar CPU kernel, and the same bits however a batch is cut up.
#include "../../csrc/cpu/attention.h"

#include <cmath>
#include <limits>

#include "batch.h"
#include "cache.h"
#include "quants.h"

namespace cria::cuda::check {
namespace {

constexpr double kHalfTolerance = 1e-3, kFloatTolerance = 1e-5;  // attention.h's
constexpr float kDeviation = 2.0f;                               // of q: so scores are of a few units

struct Shape {
  cria_type k, v;
  std::size_t group, kv_heads, head_dim;
  std::vector<Lengths> lengths;
};

// New tokens [skip, skip + fresh) of a sequence of another batch.
struct Piece {
  std::size_t sequence;
  std::int32_t skip, fresh;
};

// A batch with its queries and cache, on both sides. Places of its blocks that hold no token yet are NaN.
class Case {
 public:
  Case(Checks& checks, const Shape& shape)
      : checks_(checks),
        shape_(shape),
        batch_(checks, shape.lengths, capacity(shape)),
        cache_(checks, {shape.k, shape.v, 1, batch_.block_count, shape.kv_heads, shape.head_dim}),
        q_(checks.normal(static_cast<std::size_t>(capacity(shape)) * width(), kDeviation)),
        device_q_(checks, q_) {
    poison_unused();
  }

  // Pieces of another case, in blocks of their own.
  Case(Checks& checks, const Case& of, const std::vector<Piece>& pieces)
      : checks_(checks),
        shape_(of.cut(pieces)),
        batch_(checks, shape_.lengths, capacity(shape_)),
        cache_(checks, {shape_.k, shape_.v, 1, batch_.block_count, shape_.kv_heads, shape_.head_dim}),
        q_(of.rows_of(of.q_, pieces)),
        device_q_(checks, q_) {
    const std::size_t block_bytes = shape_.kv_heads * cache_.shape.head_bytes();
    for (std::size_t s = 0; s < pieces.size(); ++s) {
      const std::int32_t keys = shape_.lengths[s].past + shape_.lengths[s].fresh;
      for (std::int32_t i = 0; i * kKvBlock < keys; ++i) {
        std::memcpy(&cache_.host[batch_.table(s)[i] * block_bytes],
                    &of.cache_.host[of.batch_.table(pieces[s].sequence)[i] * block_bytes], block_bytes);
      }
    }
    poison_unused();
  }

  // The rows of this case's pieces, of `width()` each.
  std::vector<float> rows_of(const std::vector<float>& rows, const std::vector<Piece>& pieces) const {
    std::vector<float> chosen;
    for (const Piece& piece : pieces) {
      const auto begin = rows.begin() + (batch_.sequences[piece.sequence].first + piece.skip) * width();
      chosen.insert(chosen.end(), begin, begin + piece.fresh * width());
    }
    return chosen;
  }

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
  // they were, all ones. `split`: by attention and attention_merge, which quantises where it can.
  std::vector<float> actual(bool split, std::int32_t queries) {
    std::vector<AttentionTile> tiles;
    std::int32_t splits = 0, partial_rows = 0;
    for (std::size_t s = 0; s < shape_.lengths.size(); ++s) {
      const Lengths& length = shape_.lengths[s];
      for (std::int32_t first = 0; first < length.fresh; first += queries) {
        tiles.push_back({static_cast<std::int32_t>(s), first, std::min(first + queries, length.fresh), partial_rows});
        partial_rows += tiles.back().end_query - first;
      }
      splits = std::max(splits, (length.past + length.fresh + kKeySplit - 1) / kKeySplit);
    }
    const auto count = static_cast<int>(tiles.size());
    tiles.resize(tiles.size() + 2, {-1, -1, -1, -1});  // of the capacity, and not of the batch
    if (!split) splits = 0;
    const DeviceArray<AttentionTile> device_tiles(checks_, tiles);
    const DeviceRows rows(checks_, count, static_cast<int>(tiles.size()));
    const DeviceArray<float> partials(
        checks_, static_cast<std::size_t>(splits) * partial_rows * heads() * (2 + shape_.head_dim));
    const DeviceArray<float> out(checks_, q_.size());
    const RowShape row_shape = {batch_.tokens, batch_.rows().capacity, static_cast<int>(width())};
    const bool quantizes = split && merge_quantizes(heads(), shape_.head_dim);
    const DeviceQuants quants(checks_, row_shape);
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
                          partial_rows,
                          out.data(),
                          quantizes ? quants : QuantRows{}};
    checks_.require(checks_.plugin.attention(op, checks_.stream), "attention");
    if (split) checks_.require(checks_.plugin.attention_merge(op, checks_.stream), "attention_merge");
    if (quantizes) {
      same_quants(checks_, "attention_merge", name(), quantized_by_cpu(row_shape, out.read()), quants.read());
    }
    return out.read();
  }
  std::vector<float> actual(bool split) {
    return actual(split, checks_.plugin.attention_queries(static_cast<int>(shape_.group), split));
  }

  // Makes K or V of a token of sequence 0 NaN.
  void poison(bool key, std::int32_t index) {
    const std::int32_t block = batch_.table(0)[index / kKvBlock];
    key ? cache_.poison_key(block, index % kKvBlock) : cache_.poison_value(block, index % kKvBlock);
    cache_.upload(checks_);
  }

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

  Shape cut(const std::vector<Piece>& pieces) const {
    Shape shape = shape_;
    shape.lengths.clear();
    for (const Piece& piece : pieces) {
      shape.lengths.push_back({shape_.lengths[piece.sequence].past + piece.skip, piece.fresh});
    }
    return shape;
  }

  void poison_unused() {
    for (std::size_t s = 0; s < shape_.lengths.size(); ++s) {
      const std::int32_t keys = shape_.lengths[s].past + shape_.lengths[s].fresh;
      for (std::int32_t i = keys; i % kKvBlock != 0; ++i) {
        cache_.poison_key(batch_.table(s)[i / kKvBlock], i % kKvBlock);
        cache_.poison_value(batch_.table(s)[i / kKvBlock], i % kKvBlock);
      }
    }
    cache_.upload(checks_);
  }

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
  // As many as are expected: rows without a token follow.
  checks.same_bits(op, of.name(), expected.data(), actual.data(), expected.size() * sizeof(float));
}

// Near the CPU, and nothing written beside the rows that there are.
void check_values(Checks& checks, const Shape& shape) {
  Case c(checks, shape);
  for (const bool split : {false, true}) {
    const std::string op = split ? "attention split" : "attention";
    const std::vector<float> expected = c.expected(), actual = c.actual(split);
    checks.close(op, c.name(), expected, std::span(actual).first(expected.size()), c.tolerance());
    const std::vector<float> unused(actual.begin() + expected.size(), actual.end());
    const std::vector<std::uint8_t> ones(unused.size() * sizeof(float), 0xff);
    checks.same_bits(op + " unused rows", c.name(), ones.data(), unused.data(), ones.size());
  }
}

// The same bits whatever is computed together.
void check_bits(Checks& checks, const Shape& shape) {
  Case c(checks, shape);
  const std::vector<float> whole = c.actual(false);
  same(checks, "attention split", c, whole, c.actual(true));
  same(checks, "attention by single queries", c, whole, c.actual(false, 1));
  same(checks, "attention split by single queries", c, whole, c.actual(true, 1));

  // In other blocks and another order; each sequence alone; chunks of one.
  std::vector<Piece> reversed;
  for (std::size_t s = shape.lengths.size(); s-- > 0;) reversed.push_back({s, 0, shape.lengths[s].fresh});
  std::vector<std::vector<Piece>> batches = {reversed};
  for (const Piece& piece : reversed) {
    batches.push_back({piece});
    const std::int32_t half = piece.fresh / 2;
    if (half > 0) batches.push_back({{piece.sequence, 0, half}, {piece.sequence, half, piece.fresh - half}});
  }
  for (const std::vector<Piece>& pieces : batches) {
    Case other(checks, c, pieces);
    const std::vector<float> rows = c.rows_of(whole, pieces);
    same(checks, "attention of pieces", other, rows, other.actual(false));
    same(checks, "attention split of pieces", other, rows, other.actual(true));
  }
}

// NaN in a key or value reaches the queries that see it, and changes no bit of the others.
void check_nan(Checks& checks, const Shape& shape, std::int32_t index) {
  for (const bool key : {true, false}) {
    for (const bool split : {false, true}) {
      Case c(checks, shape);
      const std::vector<float> clean = c.actual(split);
      c.poison(key, index);
      const std::vector<float> poisoned = c.actual(split);
      const std::size_t before = (index - shape.lengths[0].past) * c.width();  // floats of queries that do not see it
      const std::size_t end = shape.lengths[0].fresh * c.width();
      const std::string op = std::string("attention ") + (split ? "split " : "") + (key ? "NaN key" : "NaN value");
      checks.same_bits(op + " not seen", c.name(), clean.data(), poisoned.data(), before * sizeof(float));
      std::vector<std::uint8_t> is_nan, ones(end - before, 1);
      for (std::size_t i = before; i < end; ++i) is_nan.push_back(std::isnan(poisoned[i]));
      checks.same_bits(op + " seen", c.name(), ones.data(), is_nan.data(), ones.size());
    }
  }
}

}  // namespace

void check_attention(Checks& checks) {
  constexpr cria_type kF32 = CRIA_TYPE_F32, kF16 = CRIA_TYPE_F16, kQ8 = CRIA_TYPE_Q8_0;
  if (checks.real_shapes) {
    for (const cria_type type : {kF16, kQ8}) {
      check_values(checks, {type, type, 1, 32, 128, {{0, 300}, {8191, 1}}});   // 7B
      check_values(checks, {type, type, 8, 8, 128, {{4000, 40}, {8191, 1}}});  // 70B
      check_bits(checks, {type, type, 1, 32, 128, {{0, 1500}, {8191, 1}}});
      check_bits(checks, {type, type, 8, 8, 128, {{4000, 300}, {8191, 1}}});
      check_nan(checks, {type, type, 1, 32, 128, {{1000, 300}}}, 1100);
    }
    return;
  }
  for (const auto& [k, v] : cache_types()) {
    check_values(checks, {k, v, 2, 2, 40, {{3, 2}, {500, 14}, {0, 9}}});
    check_bits(checks, {k, v, 3, 1, 72, {{60, 5}, {509, 4}}});
    check_nan(checks, {k, v, 2, 2, 40, {{60, 11}}}, 65);
  }
  for (const std::size_t head_dim : {8, 40, 64, 80, 128, 256}) {
    check_values(checks, {kF16, kF16, 2, 2, head_dim, {{100, 30}, {0, 1}}});
    check_values(checks, {kQ8, kQ8, 2, 2, head_dim, {{100, 30}, {0, 1}}});
    check_values(checks, {kF32, kF32, 2, 2, head_dim, {{100, 30}, {0, 1}}});
    check_nan(checks, {kF16, kF16, 1, 1, head_dim, {{500, 20}}}, 513);
  }
  for (const std::size_t group : {1, 2, 3, 4, 8, 16, 20, 130}) {
    check_values(checks, {kF16, kF16, group, 1, 64, {{518, 3}, {60, 9}}});
    if (group <= 20) check_bits(checks, {kF16, kQ8, group, 1, 24, {{511, 3}, {60, 5}}});
  }
  for (const std::int32_t keys : {1, 15, 63, 64, 65, 511, 512, 513, 1100}) {
    check_values(checks, {kF16, kF16, 1, 2, 128, {{keys - 1, 1}, {0, 1}}});
  }
  check_values(checks, {kF16, kF16, 1, 1, 128, {{300, 300}}});
  check_bits(checks, {kF16, kF16, 8, 1, 128, {{0, 20}, {1099, 1}}});
  check_bits(checks, {kF16, kF16, 4, 1, 128, {{490, 36}}});
}

}  // namespace cria::cuda::check
