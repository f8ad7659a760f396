#include "cache.h"

#include <limits>

#include "../../csrc/cpu/rope.h"

namespace cria::cuda::check {
namespace {

const char* name(cria_type type) { return type == CRIA_TYPE_F32 ? "f32" : type == CRIA_TYPE_F16 ? "f16" : "q8_0"; }

// Writes normal numbers to every place of a layer.
void fill(Checks& checks, const cpu::KvLayer& layer) {
  const std::size_t tokens = layer.blocks * cpu::kKvBlock, stride = 2 * layer.kv_heads * layer.head_dim;
  std::vector<float> kv = checks.normal(tokens * stride);
  std::vector<cpu::KvSlot> slots;
  for (std::uint32_t block = 0; block < layer.blocks; ++block) {
    for (std::uint32_t place = 0; place < cpu::kKvBlock; ++place) slots.push_back({block, place});
  }
  cpu::scalar::rope({kv.data(), stride, nullptr, nullptr, slots.data(), layer, 0, 0, false}, 0,
                    tokens * layer.kv_heads);
}

// Element d stands at `first` + d * step.
void poison(cria_type type, std::uint8_t* block, std::size_t dim, std::size_t place, std::size_t first,
            std::size_t step) {
  constexpr std::uint16_t kHalfNan = 0x7e00;
  for (std::size_t d = 0; d < dim; ++d) {
    const std::size_t at = first + d * step;
    if (type == CRIA_TYPE_F32) reinterpret_cast<float*>(block)[at] = std::numeric_limits<float>::quiet_NaN();
    if (type == CRIA_TYPE_F16) reinterpret_cast<std::uint16_t*>(block)[at] = kHalfNan;
    if (type == CRIA_TYPE_Q8_0) cpu::kv_scales(block, dim)[d / 32 * cpu::kKvBlock + place] = kHalfNan;
  }
}

}  // namespace

std::string describe(const CacheShape& shape) {
  return std::string(name(shape.k)) + "/" + name(shape.v) + " kv_heads " + std::to_string(shape.kv_heads) +
         " head_dim " + std::to_string(shape.head_dim);
}

TwinCache::TwinCache(Checks& checks, const CacheShape& shape)
    : shape(shape), host(shape.layers * shape.layer_bytes()), device(checks, host.size()) {
  for (std::size_t layer = 0; layer < shape.layers; ++layer) fill(checks, host_layer(layer));
  upload(checks);
}

cpu::KvLayer TwinCache::host_layer(std::size_t layer) {
  std::uint8_t* k = host.data() + layer * shape.layer_bytes();
  const std::size_t step = shape.head_bytes();
  return {{k, shape.k, step}, {k + shape.k_bytes(), shape.v, step}, shape.kv_heads, shape.head_dim, shape.blocks, 0};
}

KvLayer TwinCache::device_layer() const {
  return {{device.data(), shape.k},
          {device.data() + shape.k_bytes(), shape.v},
          static_cast<int>(shape.kv_heads),
          static_cast<int>(shape.head_dim),
          static_cast<std::int64_t>(shape.head_bytes())};
}

void TwinCache::poison_key(std::size_t block, std::size_t place) {
  const cpu::KvLayer layer = host_layer();
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    poison(shape.k, layer.k_head(block, head), shape.head_dim, place, place, cpu::kKvBlock);
  }
}

void TwinCache::poison_value(std::size_t block, std::size_t place) {
  const cpu::KvLayer layer = host_layer();
  for (std::size_t head = 0; head < shape.kv_heads; ++head) {
    poison(shape.v, layer.v_head(block, head), shape.head_dim, place, place * shape.head_dim, 1);
  }
}

std::vector<std::uint8_t> TwinCache::host_as_device() const {
  std::vector<std::uint8_t> bytes = host;
  const std::size_t element = cpu::with_kv_element(shape.k, [](auto x) { return sizeof(x); });
  for (std::size_t head = 0; head < host.size(); head += shape.head_bytes()) {
    for (std::size_t d = 0; d < shape.head_dim; ++d) {
      for (std::size_t place = 0; place < cpu::kKvBlock; ++place) {
        std::memcpy(&bytes[head + (place * shape.head_dim + d) * element],
                    &host[head + (d * cpu::kKvBlock + place) * element], element);
      }
    }
  }
  return bytes;
}

void TwinCache::upload(Checks& checks) const {
  const std::vector<std::uint8_t> bytes = host_as_device();
  checks.require(checks.plugin.copy(device.data(), bytes.data(), bytes.size(), checks.stream), "copy");
  checks.require(checks.plugin.synchronize(checks.stream), "synchronize");
}

std::vector<std::pair<cria_type, cria_type>> cache_types() {
  std::vector<std::pair<cria_type, cria_type>> pairs;
  for (const cria_type k : {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_Q8_0}) {
    for (const cria_type v : {CRIA_TYPE_F32, CRIA_TYPE_F16, CRIA_TYPE_Q8_0}) pairs.emplace_back(k, v);
  }
  return pairs;
}

}  // namespace cria::cuda::check
