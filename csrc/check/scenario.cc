#include "scenario.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

namespace cria::check {
namespace {

constexpr std::size_t kQkv = (kHeads + 2 * kKvHeads) * kHeadDim;
constexpr std::int32_t kLast = kPrompt - 1;
constexpr cria_rope_options kRope{.struct_size = sizeof(cria_rope_options),
                                  .heads = kHeads,
                                  .rotary_dim = kHeadDim,
                                  .halves = 0,
                                  .theta = 10000.0,
                                  .scale = 1.0};

// Of bytes (Fowler, Noll and Vo).
std::uint64_t digest(const void* data, std::size_t bytes, std::uint64_t hash = 0xcbf29ce484222325u) {
  for (std::size_t i = 0; i < bytes; ++i) hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

[[noreturn]] void wrong(const char* what) { throw Failure{CRIA_ERROR_INTERNAL, what}; }

void expect(bool right, const char* what) {
  if (!right) wrong(what);
}

// The call must fail, with a sentence that begins as expected: or for want of memory.
void expect_refused(cria_status status, const char* sentence) {
  if (status == CRIA_ERROR_MEMORY) require(status);
  expect(status == CRIA_ERROR_ARGUMENT, "a wrong argument was taken");
  expect(std::strncmp(cria_last_error(), sentence, std::strlen(sentence)) == 0, "another call's sentence was given");
}

Tensor random_matrix(cria_device* device, cria_type type, std::size_t rows, std::size_t cols, std::uint64_t seed) {
  Tensor tensor = make<Tensor>(cria_matrix_create, device, type, rows, cols);
  require(cria_tensor_fill_random(tensor.get(), seed, 0.1f));
  return tensor;
}

// One sequence in blocks [first, first + kBlocks): `count` tokens after `past` others.
struct OneSequence {
  OneSequence(std::int32_t first, std::int32_t past, std::int32_t count, std::int32_t outputs)
      : length(count), past(past), output(count - 1) {
    for (std::int32_t i = 0; i < count; ++i) {
      tokens[static_cast<std::size_t>(i)] = (past + i) * 7 + 1;
      positions[static_cast<std::size_t>(i)] = past + i;
    }
    for (std::size_t i = 0; i < kBlocks; ++i) blocks[i] = first + static_cast<std::int32_t>(i);
    batch = {.struct_size = sizeof(cria_batch),
             .token_count = static_cast<std::size_t>(count),
             .sequence_count = 1,
             .block_count = kBlocks,
             .output_count = static_cast<std::size_t>(outputs),
             .tokens = tokens.data(),
             .positions = positions.data(),
             .lengths = &length,
             .pasts = &this->past,
             .block_counts = &block_count,
             .blocks = blocks.data(),
             .outputs = &output};
  }
  OneSequence(const OneSequence&) = delete;
  OneSequence& operator=(const OneSequence&) = delete;

  std::array<std::int32_t, kPrompt> tokens, positions;
  std::array<std::int32_t, kBlocks> blocks;
  std::int32_t length, past, output, block_count = kBlocks;
  cria_batch batch;
};

}  // namespace

Device open_device(cria_device_kind kind, cria_isa isa, std::uint32_t threads) {
  const cria_device_options options{
      .struct_size = sizeof(cria_device_options), .kind = kind, .isa = isa, .threads = threads};
  return make<Device>(cria_device_open, &options);
}

Cache make_cache(cria_device* device, std::size_t blocks) {
  cria_cache_options options = kCache;
  options.blocks = blocks;
  return make<Cache>(cria_cache_create, device, &options);
}

Model::Model(cria_device* device)
    : table(random_matrix(device, CRIA_TYPE_F16, kVocabulary, kDim, 1)),
      norm(make<Tensor>(cria_vector_create, device, cria_type{CRIA_TYPE_F32}, kDim)),
      qkv(random_matrix(device, CRIA_TYPE_Q4_0, kQkv, kDim, 2)),
      output(random_matrix(device, CRIA_TYPE_Q8_0, kDim, kHeads * kHeadDim, 3)),
      gate_up(random_matrix(device, CRIA_TYPE_BF16, 2 * kHidden, kDim, 4)),
      down(random_matrix(device, CRIA_TYPE_Q8_0, kDim, kHidden, 5)),
      head(random_matrix(device, CRIA_TYPE_F32, kVocabulary, kDim, 6)),
      program(make<Program>(cria_program_create, device, &kCache)) {
  require(cria_tensor_fill_random(norm.get(), 7, 1.0f));
  record();
}

void Model::record() const {
  cria_program* const p = program.get();
  const auto value = [p](cria_rows rows, std::size_t width) {
    cria_value made = 0;
    require(cria_program_value(p, rows, width, &made));
    return made;
  };
  const cria_value x = value(CRIA_ROWS_TOKENS, kDim), normed = value(CRIA_ROWS_TOKENS, kDim);
  const cria_value projected = value(CRIA_ROWS_TOKENS, kQkv), hidden = value(CRIA_ROWS_TOKENS, kHidden);
  const cria_value attended = value(CRIA_ROWS_TOKENS, kHeads * kHeadDim);
  const cria_value last = value(CRIA_ROWS_OUTPUTS, kDim), logits = value(CRIA_ROWS_OUTPUTS, kVocabulary);
  require(cria_program_embed(p, table.get(), x));
  for (std::size_t layer = 0; layer < kLayers; ++layer) {
    require(cria_program_rmsnorm(p, x, norm.get(), 1e-5f, normed));
    require(cria_program_matmul(p, normed, qkv.get(), projected, 0));
    require(cria_program_rope(p, projected, layer, &kRope));
    require(cria_program_attention(p, projected, layer, kHeads, attended));
    require(cria_program_matmul_add(p, attended, output.get(), x));
    require(cria_program_rmsnorm(p, x, norm.get(), 1e-5f, normed));
    require(cria_program_matmul_swiglu(p, normed, gate_up.get(), hidden));
    require(cria_program_matmul_add(p, hidden, down.get(), x));
  }
  require(cria_program_add(p, x, x, x));
  require(cria_program_select(p, x, last));
  require(cria_program_rmsnorm(p, last, norm.get(), 1e-5f, last));
  require(cria_program_matmul(p, last, head.get(), logits, 0));
  require(cria_program_finish(p, logits));
}

void Model::run(cria_cache* cache, std::int32_t first, cria_cancel* cancel, Logits& logits) const {
  const OneSequence prompt(first, 0, kPrompt, 1);
  require(cria_program_run(program.get(), cache, &prompt.batch, cancel, logits.data(), logits.size()));
}

void Model::decode(cria_cache* cache, std::int32_t first, cria_cancel* cancel, Tokens& tokens) const {
  const OneSequence prompt(first, 0, kLast, 0), last(first, kLast, 1, 0);
  require(cria_program_run(program.get(), cache, &prompt.batch, cancel, nullptr, 0));
  const cria_sampling sampling{.struct_size = sizeof(cria_sampling), .temperature = 0.8f, .top_p = 0.9f, .seed = 11};
  require(cria_program_decode(program.get(), cache, &last.batch, 8, &sampling, kSteps, cancel, tokens.data()));
}

void use_cache(cria_cache* cache, std::int32_t first) {
  static constexpr std::size_t kMost = 64 << 10;
  std::array<std::uint8_t, kMost> before, after;
  const std::array<std::int32_t, kBlocks> blocks{first, first + 1};
  const std::size_t bytes = kBlocks * cria_cache_block_bytes(cache);
  expect(bytes > 0 && bytes <= kMost, "a block has another size than its shape says");
  require(cria_cache_read(cache, kBlocks, blocks.data(), before.data(), bytes));
  // The prompt's last token, turned, to the place after it, and back.
  const std::int32_t from = first * CRIA_KV_BLOCK + kLast, to = from + 1;
  require(cria_cache_move(cache, 1, &from, &to, 1, &kRope));
  require(cria_cache_move(cache, 1, &to, &from, 0, nullptr));
  require(cria_cache_write(cache, kBlocks, blocks.data(), before.data(), bytes));
  require(cria_cache_read(cache, kBlocks, blocks.data(), after.data(), bytes));
  expect(std::memcmp(before.data(), after.data(), bytes) == 0, "the cache holds other bytes than were written");
}

std::uint64_t use_kernels(cria_device* device) {
  constexpr std::size_t kRows = 3;
  std::array<float, kRows * kDim> x, out;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 31) - 15.0f;
  std::uint64_t hash = 0;
  const auto add_to_hash = [&hash](const auto& array) { hash = digest(array.data(), sizeof(array), hash); };

  require(cria_rmsnorm(device, kRows, kDim, x.data(), x.data(), 1e-5f, out.data()));
  add_to_hash(out);
  require(cria_add(device, x.size(), x.data(), out.data(), out.data()));
  add_to_hash(out);

  std::array<float, kRows * kDim / 2> halved;
  require(cria_swiglu(device, kRows, kDim / 2, x.data(), halved.data()));
  add_to_hash(halved);

  std::array<std::int8_t, kRows * kDim> quants;
  std::array<float, kRows * kDim / 32> scales;
  std::array<std::int32_t, kRows * kDim / 32> sums;
  require(cria_quantize(device, kRows, kDim, x.data(), quants.data(), scales.data(), sums.data()));
  add_to_hash(quants);
  add_to_hash(sums);

  const Tensor weight = random_matrix(device, CRIA_TYPE_Q4_0, kDim, kDim, 8);
  const std::array<std::int32_t, kRows> ids{2, 0, 255};
  require(cria_embed(device, weight.get(), kRows, ids.data(), out.data()));
  add_to_hash(out);
  require(cria_matmul(device, weight.get(), kRows, x.data(), out.data()));
  add_to_hash(out);

  std::array<float, kBlocks * kKvHeads * CRIA_KV_BLOCK * kHeadDim> k{}, v{};
  const cria_kv_layer layer{.struct_size = sizeof(cria_kv_layer),
                            .key_type = CRIA_TYPE_F32,
                            .value_type = CRIA_TYPE_F32,
                            .blocks = kBlocks,
                            .kv_heads = kKvHeads,
                            .head_dim = kHeadDim,
                            .k = k.data(),
                            .v = v.data()};
  const OneSequence tokens(0, 0, kPrompt, 0);
  std::array<float, kPrompt * kQkv> projected;
  for (std::size_t i = 0; i < projected.size(); ++i) projected[i] = static_cast<float>(i % 13) * 0.1f;
  std::array<float, kPrompt * kHeads * kHeadDim> attended;
  require(cria_rope(device, &tokens.batch, &kRope, &layer, projected.data()));
  require(cria_attention(device, &tokens.batch, kHeads, &layer, projected.data(), kQkv, attended.data()));
  add_to_hash(k);
  add_to_hash(attended);
  return hash;
}

WeightsFile::WeightsFile() {
  std::snprintf(path, sizeof(path), "/tmp/cria-check-XXXXXX");
  const int descriptor = ::mkstemp(path);
  expect(descriptor >= 0, "no file can be made in /tmp");
  ::close(descriptor);
  std::FILE* const file = std::fopen(path, "wb");
  expect(file != nullptr, "the file in /tmp cannot be written");

  const Device device = open_device(CRIA_DEVICE_CPU, CRIA_ISA_SCALAR, 1);
  const Tensor tensor = random_matrix(device.get(), CRIA_TYPE_F32, kVocabulary, kDim, 9);
  std::array<float, kDim> row;
  for (std::size_t i = 0; i < kVocabulary; ++i) {
    require(cria_tensor_unpack(tensor.get(), i, 1, row.data(), sizeof(row)));
    std::fwrite(row.data(), sizeof(row), 1, file);
  }
  std::array<std::uint8_t, 4096> piece;
  for (std::size_t at = 0; at < cria_tensor_bytes(tensor.get()); at += piece.size()) {
    require(cria_tensor_read_packed(tensor.get(), at, piece.data(), piece.size()));
    std::fwrite(piece.data(), piece.size(), 1, file);
  }
  expect(std::fclose(file) == 0, "the file in /tmp cannot be written");
}

WeightsFile::~WeightsFile() { ::unlink(path); }

void use_file(cria_device* device, cria_device_kind kind, cria_file* file) {
  const bool cpu = kind == CRIA_DEVICE_CPU;
  // Mapped before anything else: of many that come at once, one maps the file for all.
  const auto there = [&](auto from_file) {
    return make<Tensor>(from_file, device, cria_type{CRIA_TYPE_F32}, kVocabulary, kDim, file, WeightsFile::kPackedAt);
  };
  const Tensor mapped = cpu ? there(cria_matrix_map) : nullptr;
  const Tensor read = cpu ? there(cria_matrix_read) : nullptr;

  const Tensor packed = make<Tensor>(cria_matrix_create, device, cria_type{CRIA_TYPE_F32}, kVocabulary, kDim);
  require(cria_tensor_pack_file(packed.get(), 0, kVocabulary, file, 0));
  std::array<float, kDim> row, again;
  require(cria_tensor_unpack(packed.get(), kVocabulary - 1, 1, row.data(), sizeof(row)));
  // Packed anew from its own bytes, the last row is what it was.
  require(cria_tensor_pack(packed.get(), kVocabulary - 1, 1, row.data(), sizeof(row)));
  for (const Tensor* tensor : {&packed, &mapped, &read}) {
    if (*tensor == nullptr) continue;
    require(cria_tensor_unpack(tensor->get(), kVocabulary - 1, 1, again.data(), sizeof(again)));
    expect(row == again, "a row is not what the file holds");
  }
}

void use_wrongly(cria_device* device) {
  cria_tensor* tensor = nullptr;
  expect_refused(cria_matrix_create(device, CRIA_TYPE_Q4_0, 1, 33, &tensor), "cols: must be a multiple of 32");
  expect_refused(cria_rmsnorm(device, 1, 0, nullptr, nullptr, 1.0f, nullptr), "dim: must be at least 1, not 0");
  expect_refused(cria_matrix_create(nullptr, CRIA_TYPE_F32, 1, 1, &tensor), "device: must not be null");
}

std::uint64_t everything(cria_device_kind kind, cria_isa isa, std::uint32_t threads, const WeightsFile& weights) {
  cria_device_info info{.struct_size = sizeof(cria_device_info)};
  require(cria_device_describe(kind, &info));
  const Device device = open_device(kind, isa, threads);
  require(cria_device_get_info(device.get(), &info));
  require(cria_measure_limit(device.get(), CRIA_LIMIT_READ, 0, nullptr));
  const Model model(device.get());
  const Cache cache = make_cache(device.get(), kBlocks);
  const Cancel cancel = make<Cancel>(cria_cancel_create);
  Logits logits{};
  Tokens tokens{};
  model.run(cache.get(), 0, cancel.get(), logits);
  model.decode(cache.get(), 0, cancel.get(), tokens);
  use_cache(cache.get(), 0);
  const std::uint64_t kernels = use_kernels(device.get());
  const File file = make<File>(cria_file_open, static_cast<const char*>(weights.path));
  use_file(device.get(), kind, file.get());
  use_wrongly(device.get());
  return digest(logits.data(), sizeof(logits), digest(tokens.data(), sizeof(tokens), kernels));
}

}  // namespace cria::check
