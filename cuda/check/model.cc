#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <stdexcept>

#include "../../csrc/core/half.h"
#include "../../csrc/core/weights.h"

namespace cria::cuda::check {
namespace {

constexpr float kEps = 1e-5f;

// A struct of cria.h, zeros but for its size.
template <class Options>
Options sized() {
  Options options{};
  options.struct_size = sizeof(Options);
  return options;
}

cria_cache_options cache_options(const ModelShape& shape, std::size_t blocks) {
  auto options = sized<cria_cache_options>();
  options.key_type = options.value_type = CRIA_TYPE_F16;
  options.layers = shape.layers;
  options.kv_heads = shape.kv_heads;
  options.head_dim = shape.head_dim();
  options.blocks = blocks;
  return options;
}

// Sixteen random weights of -7 ... 7 as nibbles: -8, which has no counterpart, becomes 0. A mean other than 0 would
// pull all tokens' activations in one direction, in which they hide what attention makes of them.
std::uint64_t random_nibbles(std::mt19937_64& random) {
  const std::uint64_t nibbles = random();
  const std::uint64_t some = nibbles | nibbles >> 1 | nibbles >> 2 | nibbles >> 3;
  return nibbles | (~some & 0x1111111111111111u) << 3;
}

// The standard deviation of such a weight, before its scale.
constexpr float kNibbleDeviation = 4.18f;

// Rows that are made at a time: a few MiB.
constexpr std::size_t kRows = 256;

}  // namespace

void require_ok(cria_status status) {
  if (status != CRIA_OK) throw std::runtime_error(cria_last_error());
}

std::size_t weight_bytes(const ModelShape& shape) {
  const std::size_t qkv = shape.dim + 2 * shape.kv_heads * shape.head_dim();
  const std::size_t layer = shape.dim * (qkv + shape.dim + 3 * shape.ffn);
  const std::size_t weights = shape.layers * layer + 2 * shape.vocabulary * shape.dim;
  return weights / kBlock * sizeof(Q4_0);
}

Model::Model(cria_device_kind kind, const ModelShape& shape, std::size_t sequences, std::size_t context)
    : shape(shape) {
  auto options = sized<cria_device_options>();
  options.kind = kind;
  cria_device* device = nullptr;
  require_ok(cria_device_open(&options, &device));
  device_.reset(device);
  reserve(sequences, context);

  const cria_cache_options in = cache_options(shape, 0);
  cria_program* program = nullptr;
  require_ok(cria_program_create(device_.get(), &in, &program));
  program_.reset(program);
  record();
}

void Model::reserve(std::size_t sequences, std::size_t context) {
  const std::size_t blocks = sequences * ((context + CRIA_KV_BLOCK - 1) / CRIA_KV_BLOCK);
  const cria_cache_options options = cache_options(shape, blocks);
  cache_.reset();
  cria_cache* cache = nullptr;
  require_ok(cria_cache_create(device_.get(), &options, &cache));
  cache_.reset(cache);
  sequences_ = sequences;
  lengths_.assign(sequences, 0);
}

// Rows of the deviation 1 / sqrt(cols) keep activations near 1.
Model::Tensor Model::matrix(std::size_t rows, std::size_t cols) {
  cria_tensor* tensor = nullptr;
  require_ok(cria_matrix_create(device_.get(), CRIA_TYPE_Q4_0, rows, cols, &tensor));
  Tensor matrix(tensor);
  std::mt19937_64 random(++seed_);
  const std::uint16_t scale = float_to_half(1.0f / (kNibbleDeviation * std::sqrt(static_cast<float>(cols))));
  std::vector<Q4_0> blocks(kRows * cols / kBlock);
  for (std::size_t row = 0; row < rows; row += kRows) {
    for (Q4_0& block : blocks) {
      const std::uint64_t nibbles[] = {random_nibbles(random), random_nibbles(random)};
      static_assert(sizeof(nibbles) == sizeof(block.nibbles));
      std::memcpy(block.scale, &scale, sizeof(scale));
      std::memcpy(block.nibbles, nibbles, sizeof(nibbles));
    }
    const std::size_t count = std::min(kRows, rows - row);
    require_ok(cria_tensor_pack(tensor, row, count, blocks.data(), count * cols / kBlock * sizeof(Q4_0)));
  }
  return matrix;
}

Model::Tensor Model::ones() {
  cria_tensor* tensor = nullptr;
  require_ok(cria_vector_create(device_.get(), CRIA_TYPE_F32, shape.dim, &tensor));
  Tensor vector(tensor);
  const std::vector<float> values(shape.dim, 1.0f);
  require_ok(cria_tensor_pack(tensor, 0, 1, values.data(), values.size() * sizeof(float)));
  return vector;
}

cria_value Model::value(cria_rows rows, std::size_t width) {
  cria_value value = 0;
  require_ok(cria_program_value(program_.get(), rows, width, &value));
  return value;
}

// The forward pass as lib/llama.ts records it. The program keeps the tensors.
void Model::record() {
  cria_program* const program = program_.get();
  const std::size_t q = shape.heads * shape.head_dim(), kv = shape.kv_heads * shape.head_dim();
  auto rope = sized<cria_rope_options>();
  rope.heads = shape.heads;
  rope.rotary_dim = shape.head_dim();
  rope.theta = 10000.0;
  rope.scale = 1.0;

  struct Values {
    cria_value x, normed, attended, hidden;
  };
  const auto values = [&](cria_rows rows) {
    return Values{value(rows, shape.dim), value(rows, shape.dim), value(rows, q), value(rows, shape.ffn)};
  };
  const Values tokens = values(CRIA_ROWS_TOKENS), outputs = values(CRIA_ROWS_OUTPUTS);
  const cria_value qkv = value(CRIA_ROWS_TOKENS, q + 2 * kv);
  const cria_value logits = value(CRIA_ROWS_OUTPUTS, shape.vocabulary);

  require_ok(cria_program_embed(program, matrix(shape.vocabulary, shape.dim).get(), tokens.x));
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    require_ok(cria_program_rmsnorm(program, tokens.x, ones().get(), kEps, tokens.normed));
    require_ok(cria_program_matmul(program, tokens.normed, matrix(q + 2 * kv, shape.dim).get(), qkv, 0));
    require_ok(cria_program_rope(program, qkv, layer, &rope));
    require_ok(cria_program_attention(program, qkv, layer, shape.heads, tokens.attended));
    const bool last = layer + 1 == shape.layers;
    if (last) {
      require_ok(cria_program_select(program, tokens.x, outputs.x));
      require_ok(cria_program_select(program, tokens.attended, outputs.attended));
    }
    const Values& on = last ? outputs : tokens;
    require_ok(cria_program_matmul_add(program, on.attended, matrix(shape.dim, q).get(), on.x));
    require_ok(cria_program_rmsnorm(program, on.x, ones().get(), kEps, on.normed));
    require_ok(cria_program_matmul_swiglu(program, on.normed, matrix(2 * shape.ffn, shape.dim).get(), on.hidden));
    require_ok(cria_program_matmul_add(program, on.hidden, matrix(shape.dim, shape.ffn).get(), on.x));
  }
  require_ok(cria_program_rmsnorm(program, outputs.x, ones().get(), kEps, outputs.normed));
  require_ok(cria_program_matmul(program, outputs.normed, matrix(shape.vocabulary, shape.dim).get(), logits, 0));
  require_ok(cria_program_finish(program, logits));
}

// What cria_batch points into.
struct Model::Batch {
  std::vector<std::int32_t> tokens, positions, lengths, pasts, block_counts, blocks, outputs;

  cria_batch view() const {
    auto batch = sized<cria_batch>();
    batch.token_count = tokens.size();
    batch.sequence_count = lengths.size();
    batch.block_count = blocks.size();
    batch.output_count = outputs.size();
    batch.tokens = tokens.data();
    batch.positions = positions.data();
    batch.lengths = lengths.data();
    batch.pasts = pasts.data();
    batch.block_counts = block_counts.data();
    batch.blocks = blocks.data();
    batch.outputs = outputs.data();
    return batch;
  }
};

// With tables that have room for `room` tokens more.
Model::Batch Model::append(std::span<const NewTokens> added, Outputs outputs, std::size_t room) {
  Batch batch;
  for (const NewTokens& each : added) {
    std::int32_t& length = lengths_[each.sequence];
    batch.lengths.push_back(static_cast<std::int32_t>(each.tokens.size()));
    batch.pasts.push_back(length);
    for (const std::int32_t& token : each.tokens) {
      batch.tokens.push_back(token);
      batch.positions.push_back(length++);
      const bool last = &token == &each.tokens.back();
      if (last || outputs == Outputs::kAll) batch.outputs.push_back(static_cast<std::int32_t>(batch.tokens.size() - 1));
    }
    batch.block_counts.push_back(static_cast<std::int32_t>((length + room + CRIA_KV_BLOCK - 1) / CRIA_KV_BLOCK));
    for (std::int32_t i = 0; i < batch.block_counts.back(); ++i) {
      batch.blocks.push_back(i * static_cast<std::int32_t>(sequences_) + each.sequence);
    }
  }
  return batch;
}

std::span<const float> Model::run(std::span<const NewTokens> added, Outputs outputs) {
  const Batch batch = append(added, outputs, 0);
  const cria_batch view = batch.view();
  const std::size_t count = batch.outputs.size() * shape.vocabulary;
  if (logits_.size() < count) logits_.resize(count);
  require_ok(cria_program_run(program_.get(), cache_.get(), &view, nullptr, logits_.data(), count));
  return {logits_.data(), count};
}

std::vector<std::int32_t> Model::decode(std::span<const NewTokens> added, std::size_t steps) {
  const Batch batch = append(added, Outputs::kLast, steps - 1);
  const cria_batch view = batch.view();
  auto greedy = sized<cria_sampling>();
  greedy.top_p = 1.0f;
  const std::vector<cria_sampling> sampling(added.size(), greedy);
  std::vector<std::int32_t> tokens(added.size() * steps);
  require_ok(
      cria_program_decode(program_.get(), cache_.get(), &view, 1, sampling.data(), steps, nullptr, tokens.data()));
  for (const NewTokens& each : added) lengths_[each.sequence] += static_cast<std::int32_t>(steps - 1);
  return tokens;
}

}  // namespace cria::cuda::check
