// Caches that hold arbitrary bytes: what is written is read, what fails changes nothing, and every instruction set
// moves, turns and attends alike.
#include <algorithm>

#include "batch.h"
#include "cache_bytes.h"
#include "check.h"
#include "input.h"

namespace cria::fuzz {
namespace {

// The same cache on every device.
class Caches {
 public:
  explicit Caches(Input& input)
      : input_(input),
        options_{.struct_size = sizeof(options_),
                 .key_type = kCacheTypes[input.below(3)],
                 .value_type = kCacheTypes[input.below(3)],
                 .layers = input.within(1, 2),
                 .kv_heads = input.within(1, 2),
                 .head_dim = 8 * input.within(1, 9),
                 .blocks = input.within(1, 40)} {
    for (const Device& device : devices()) {
      cria_cache* cache = nullptr;
      expect(cria_cache_create(device.get(), &options_, &cache) == CRIA_OK, "a small cache cannot be made");
      caches_.emplace_back(cache);
    }
    block_bytes_ = cria_cache_block_bytes(caches_[0].get());
    expect(block_bytes_ * options_.blocks == cria_cache_bytes(caches_[0].get()), "a cache is not its blocks");
  }

  void step() {
    switch (input_.below(4)) {
      case 0:
        return write();
      case 1:
        return move(/*shift=*/0);
      case 2:
        return move(input_.rarely() ? input_.hostile_int() : input_.take<std::int8_t>());
      default:
        return attend();
    }
  }

 private:
  std::vector<std::int32_t> blocks() {
    std::vector<std::int32_t> blocks(input_.below(7));
    const std::size_t first = input_.below(options_.blocks);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = input_.rarely() ? input_.hostile_int() : static_cast<std::int32_t>((first + i) % options_.blocks);
    }
    return blocks;
  }

  // All blocks of a device's cache.
  std::vector<std::uint8_t> content(std::size_t device) const {
    std::vector<std::int32_t> all(options_.blocks);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    std::vector<std::uint8_t> bytes(all.size() * block_bytes_);
    expect(cria_cache_read(caches_[device].get(), all.size(), all.data(), bytes.data(), bytes.size()) == CRIA_OK,
           "a cache cannot be read");
    return bytes;
  }

  // Runs a call on every device; where it fails, on all, and with nothing changed.
  template <class Call>
  bool on_all(const char* what, const Call& call) {
    std::vector<cria_status> statuses;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      const std::vector<std::uint8_t> before = content(i);
      statuses.push_back(call(caches_[i].get()));
      if (!succeeded(statuses.back())) expect(content(i) == before, "a failed call has changed the cache");
    }
    for (const cria_status status : statuses) expect(status == statuses[0], what);
    return statuses[0] == CRIA_OK;
  }

  void write() {
    const std::vector<std::int32_t> to = blocks();
    std::size_t bytes = to.size() * block_bytes_;
    if (input_.rarely()) bytes = input_.below(256);
    const auto data = input_.array<std::uint8_t>(bytes);
    const bool written = on_all("writing differs", [&](cria_cache* cache) {
      return cria_cache_write(cache, to.size(), to.data(), data.data(), data.size());
    });
    if (!written) return;
    for (const Cache& cache : caches_) {
      std::vector<std::uint8_t> back(data.size());
      expect(cria_cache_read(cache.get(), to.size(), to.data(), back.data(), back.size()) == CRIA_OK,
             "written blocks cannot be read");
      expect(back == data, "blocks differ from what was written");
    }
  }

  // Slots that move towards the beginning, or anywhere.
  void move(std::int32_t shift) {
    const auto slots = static_cast<std::int32_t>(options_.blocks * CRIA_KV_BLOCK);
    const std::size_t count = input_.below(50);
    std::vector<std::int32_t> from(count), to(count);
    const std::int32_t start = input_.take<std::uint16_t>() % slots, by = input_.take<std::uint16_t>() % slots;
    for (std::size_t i = 0; i < count; ++i) {
      to[i] = (start + static_cast<std::int32_t>(i)) % slots;
      from[i] = (to[i] + by) % slots;
      if (input_.rarely()) (input_.below(2) == 0 ? from : to)[i] = input_.hostile_int();
    }
    const cria_rope_options rope{.struct_size = sizeof(rope),
                                 .heads = 0,
                                 .rotary_dim = input_.rarely() ? input_.hostile_size() : 2 * input_.within(1, 20),
                                 .halves = static_cast<std::int32_t>(input_.below(2)),
                                 .theta = input_.rarely() ? input_.take<double>() : 10000,
                                 .scale = input_.rarely() ? input_.take<double>() : 1,
                                 .frequencies = nullptr,
                                 .magnitude = input_.rarely() ? input_.take<double>() : 0};
    on_all("moving differs",
           [&](cria_cache* cache) { return cria_cache_move(cache, count, from.data(), to.data(), shift, &rope); });
    const std::vector<std::uint8_t> expected = content(0);
    const cria_type types[] = {options_.key_type, options_.value_type};
    for (std::size_t i = 1; i < caches_.size(); ++i) {
      expect(same_heads(types, options_.head_dim, content(i), expected), "moved slots differ");
    }
  }

  // One attention over what is there in a layer.
  void attend() {
    BatchArrays arrays = read_batch(input_, options_.blocks, 1, 20);
    if (input_.rarely()) spoil(input_, arrays);
    arrays.outputs.clear();
    for (std::size_t i = 0; i < arrays.tokens.size(); ++i) arrays.outputs.push_back(static_cast<std::int32_t>(i));
    const cria_batch batch = view(arrays);
    const std::size_t heads = options_.kv_heads * input_.within(1, 2), layer = input_.below(options_.layers);
    const std::size_t width = (heads + 2 * options_.kv_heads) * options_.head_dim,
                      out_width = heads * options_.head_dim;
    const auto qkv = input_.array<std::uint8_t>(width * sizeof(float));
    std::vector<std::vector<float>> results;
    std::vector<cria_status> statuses;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      const Tensor table = pack_matrix(devices()[i].get(), CRIA_TYPE_F32, 1, width, qkv);
      const Program program = record(devices()[i].get(), table.get(), heads, width, out_width, layer);
      results.emplace_back(arrays.outputs.size() * out_width);
      statuses.push_back(
          cria_program_run(program.get(), caches_[i].get(), &batch, nullptr, results[i].data(), results[i].size()));
      succeeded(statuses[i]);
      expect(statuses[i] == statuses[0], "attention fails on some devices");
      expect(same(std::span<const float>(results[i]), std::span<const float>(results[0])), "attention differs");
    }
  }

  // The attention of one q, the row of `table`, over a layer.
  Program record(cria_device* device, const cria_tensor* table, std::size_t heads, std::size_t width,
                 std::size_t out_width, std::size_t layer) const {
    cria_program* made = nullptr;
    cria_value qkv, all, out;
    const bool ok = cria_program_create(device, &options_, &made) == CRIA_OK &&
                    cria_program_value(made, CRIA_ROWS_TOKENS, width, &qkv) == CRIA_OK &&
                    cria_program_value(made, CRIA_ROWS_TOKENS, out_width, &all) == CRIA_OK &&
                    cria_program_value(made, CRIA_ROWS_OUTPUTS, out_width, &out) == CRIA_OK &&
                    cria_program_embed(made, table, qkv) == CRIA_OK &&
                    cria_program_attention(made, qkv, layer, heads, all) == CRIA_OK &&
                    cria_program_select(made, all, out) == CRIA_OK && cria_program_finish(made, out) == CRIA_OK;
    expect(ok, "attention cannot be recorded");
    return Program(made);
  }

  Input& input_;
  cria_cache_options options_;
  std::vector<Cache> caches_;  // one a device
  std::size_t block_bytes_;
};

}  // namespace
}  // namespace cria::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cria::fuzz::Input input(data, size);
  cria::fuzz::Caches caches(input);
  for (int steps = 0; steps < 8 && !input.empty(); ++steps) caches.step();
  return 0;
}
