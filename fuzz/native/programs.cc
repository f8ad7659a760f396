// Forward passes that are recorded in part wrongly, over weights of arbitrary bits, and run and decoded over batches
// whose block tables, lengths and ids may be anything: an error, or the same tokens, logits and cache on every
// instruction set.
#include <algorithm>

#include "batch.h"
#include "cache_bytes.h"
#include "check.h"
#include "input.h"

namespace cria::fuzz {
namespace {

constexpr std::size_t kVocabulary = 40;

// Of kWeightTypes those whose rows may be short: the last ones' blocks of 256 would make every program a large one.
constexpr std::size_t kSmallBlocks = 10;
static_assert(kWeightTypes[kSmallBlocks - 1].block == 32 && kWeightTypes[kSmallBlocks].block == 256);

struct Shape {
  std::size_t heads, kv_heads, head_dim, ffn, blocks;
  cria_type weights, keys, values;

  std::size_t dim() const { return heads * head_dim; }
  std::size_t qkv() const { return (heads + 2 * kv_heads) * head_dim; }
};

Shape read_shape(Input& input) {
  Shape shape{.heads = 0,
              .kv_heads = input.within(1, 2),
              .head_dim = 8 * input.within(1, 5),
              .ffn = 16 * input.within(1, 5) + input.below(2),
              .blocks = input.within(1, 20),
              .weights = kWeightTypes[input.below(kSmallBlocks)].type,
              .keys = kCacheTypes[input.below(3)],
              .values = kCacheTypes[input.below(3)]};
  shape.heads = shape.kv_heads * input.within(1, 2);
  // Rows of a product's weights are whole blocks.
  if (is_quantised(shape.weights)) {
    shape.head_dim = 32;
    shape.ffn = 64;
  }
  return shape;
}

// Of an input, everything that the devices share: read once, so that each is given the same.
struct Script {
  Shape shape;
  std::vector<std::uint8_t> norm, qkv, output, gate_up, down, table;
  std::vector<std::uint8_t> twists;  // of each recorded op: 0 leaves it as it should be
  struct Run {
    BatchArrays batch;
    bool decode;
    std::size_t steps;
    std::uint32_t candidates;
    std::vector<cria_sampling> sampling;
  };
  std::vector<Run> runs;
};

Script read_script(Input& input) {
  Script script{.shape = read_shape(input)};
  const Shape& shape = script.shape;
  const auto matrix = [&](std::size_t rows, std::size_t cols) {
    return input.array<std::uint8_t>(rows * row_bytes(shape.weights, cols));
  };
  script.norm = input.array<std::uint8_t>(shape.dim() * sizeof(float));
  script.table = matrix(kVocabulary, shape.dim());
  script.qkv = matrix(shape.qkv(), shape.dim());
  script.output = matrix(shape.dim(), shape.dim());
  script.gate_up = matrix(2 * shape.ffn, shape.dim());
  script.down = matrix(shape.dim(), shape.ffn);
  for (int i = 0; i < 16; ++i) script.twists.push_back(input.rarely() ? input.take<std::uint8_t>() : 0);
  for (std::size_t runs = input.within(1, 3); runs > 0; --runs) {
    Script::Run run{.batch = {}, .decode = input.below(2) == 0, .steps = input.within(0, 6)};
    run.batch = read_batch(input, shape.blocks, kVocabulary, run.decode ? 1 : 18);
    if (input.rarely()) spoil(input, run.batch);
    run.candidates = input.rarely() ? input.take<std::uint32_t>() : static_cast<std::uint32_t>(input.below(42));
    for (std::size_t i = 0; i < run.batch.lengths.size(); ++i) {
      run.sampling.push_back({.struct_size = sizeof(cria_sampling),
                              .temperature = input.rarely() ? input.take<float>() : 0.5f * input.below(4),
                              .top_p = input.rarely() ? input.take<float>() : 0.25f * (1 + input.below(4)),
                              .seed = input.take<std::uint64_t>()});
    }
    script.runs.push_back(std::move(run));
  }
  return script;
}

// What came of a script on one device.
struct Outcome {
  std::vector<cria_status> statuses;
  std::vector<float> results;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> cache;
};

class Player {
 public:
  Player(const Script& script, cria_device* device) : script_(script), device_(device) {
    const Shape& shape = script.shape;
    const cria_cache_options options{.struct_size = sizeof(options),
                                     .key_type = shape.keys,
                                     .value_type = shape.values,
                                     .layers = 1,
                                     .kv_heads = shape.kv_heads,
                                     .head_dim = shape.head_dim,
                                     .blocks = shape.blocks};
    cria_cache* cache = nullptr;
    expect(cria_cache_create(device, &options, &cache) == CRIA_OK, "a small cache cannot be made");
    cache_.reset(cache);
    cria_program* program = nullptr;
    expect(cria_program_create(device, &options, &program) == CRIA_OK, "a program cannot be made");
    program_.reset(program);
  }

  Outcome play() {
    record();
    for (const Script::Run& run : script_.runs) run.decode ? decode(run) : this->run(run);
    read_cache();
    return std::move(outcome_);
  }

 private:
  const Tensor& matrix(std::size_t rows, std::size_t cols, const std::vector<std::uint8_t>& data) {
    return weights_.emplace_back(pack_matrix(device_, script_.shape.weights, rows, cols, data));
  }

  cria_value value(cria_rows rows, std::size_t width) {
    cria_value value = -1;
    expect(cria_program_value(program_.get(), rows, width, &value) == CRIA_OK, "a value cannot be made");
    return value;
  }

  // Another value than the op should have, where the script says so.
  cria_value twisted(cria_value value) {
    const std::uint8_t twist = script_.twists[next_twist_++ % script_.twists.size()];
    return twist == 0 ? value : static_cast<cria_value>(twist % 9) - 1;
  }

  void note(cria_status status) {
    succeeded(status);
    outcome_.statuses.push_back(status);
  }

  void record() {
    const Shape& shape = script_.shape;
    cria_program* const p = program_.get();
    const cria_value x = value(CRIA_ROWS_TOKENS, shape.dim()), h = value(CRIA_ROWS_TOKENS, shape.dim());
    const cria_value qkv = value(CRIA_ROWS_TOKENS, shape.qkv()), ffn = value(CRIA_ROWS_TOKENS, shape.ffn);
    const cria_value last = value(CRIA_ROWS_OUTPUTS, shape.dim()), logits = value(CRIA_ROWS_OUTPUTS, kVocabulary);
    const Tensor norm = pack_vector(device_, CRIA_TYPE_F32, script_.norm, shape.dim());
    const cria_rope_options rope{.struct_size = sizeof(rope),
                                 .heads = shape.heads,
                                 .rotary_dim = shape.head_dim,
                                 .halves = 0,
                                 .theta = 10000,
                                 .scale = 1};
    const cria_tensor* table = matrix(kVocabulary, shape.dim(), script_.table).get();
    note(cria_program_embed(p, table, twisted(x)));
    note(cria_program_rmsnorm(p, twisted(x), norm.get(), 1e-5f, twisted(h)));
    note(cria_program_matmul(p, twisted(h), matrix(shape.qkv(), shape.dim(), script_.qkv).get(), qkv, 0));
    note(cria_program_rope(p, twisted(qkv), 0, &rope));
    note(cria_program_attention(p, twisted(qkv), 0, shape.heads, twisted(h)));
    note(cria_program_matmul_add(p, twisted(h), matrix(shape.dim(), shape.dim(), script_.output).get(), twisted(x)));
    note(cria_program_rmsnorm(p, x, norm.get(), 1e-5f, twisted(h)));
    note(cria_program_matmul_swiglu(p, h, matrix(2 * shape.ffn, shape.dim(), script_.gate_up).get(), twisted(ffn)));
    note(cria_program_matmul_add(p, twisted(ffn), matrix(shape.dim(), shape.ffn, script_.down).get(), x));
    note(cria_program_add(p, twisted(x), h, twisted(x)));
    note(cria_program_select(p, twisted(x), last));
    note(cria_program_matmul(p, last, table, twisted(logits), 0));
    note(cria_program_finish(p, logits));
  }

  void run(const Script::Run& run) {
    const cria_batch batch = view(run.batch);
    std::vector<float> result(batch.output_count * kVocabulary);
    note(cria_program_run(program_.get(), cache_.get(), &batch, nullptr, result.data(), result.size()));
    outcome_.results.insert(outcome_.results.end(), result.begin(), result.end());
  }

  void decode(const Script::Run& run) {
    const cria_batch batch = view(run.batch);
    std::vector<std::int32_t> tokens(run.sampling.size() * run.steps, -1);
    note(cria_program_decode(program_.get(), cache_.get(), &batch, run.candidates, run.sampling.data(), run.steps,
                             nullptr, tokens.data()));
    if (outcome_.statuses.back() == CRIA_OK) {
      for (const std::int32_t token : tokens) {
        expect(token >= 0 && token < static_cast<std::int32_t>(kVocabulary), "a drawn token is none");
      }
    }
    outcome_.tokens.insert(outcome_.tokens.end(), tokens.begin(), tokens.end());
  }

  void read_cache() {
    std::vector<std::int32_t> blocks(script_.shape.blocks);
    for (std::size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::int32_t>(i);
    outcome_.cache.resize(blocks.size() * cria_cache_block_bytes(cache_.get()));
    note(cria_cache_read(cache_.get(), blocks.size(), blocks.data(), outcome_.cache.data(), outcome_.cache.size()));
  }

  const Script& script_;
  cria_device* const device_;
  Cache cache_;
  Program program_;
  std::vector<Tensor> weights_;
  std::size_t next_twist_ = 0;
  Outcome outcome_;
};

}  // namespace
}  // namespace cria::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cria::fuzz;
  Input input(data, size);
  const Script script = read_script(input);
  const Outcome expected = Player(script, devices()[0].get()).play();
  for (std::size_t i = 1; i < devices().size(); ++i) {
    const Outcome found = Player(script, devices()[i].get()).play();
    expect(found.statuses == expected.statuses, "programs fail on some devices");
    expect(same(std::span<const float>(found.results), std::span<const float>(expected.results)), "logits differ");
    expect(found.tokens == expected.tokens, "drawn tokens differ");
    const cria_type types[] = {script.shape.keys, script.shape.values};
    expect(same_heads(types, script.shape.head_dim, found.cache, expected.cache), "caches differ");
  }
  return 0;
}
