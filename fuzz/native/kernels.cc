// Weights, activations and caches of arbitrary bits, NaN and infinities among them, through every single kernel: each
// instruction set must give the bits of the scalar one.
#include <array>

#include "batch.h"
#include "cache_bytes.h"
#include "check.h"
#include "input.h"

namespace cria::fuzz {
namespace {

void rmsnorm(Input& input) {
  const std::size_t rows = input.within(0, 3), dim = input.within(1, 100);
  const float eps = input.take<float>();
  const auto x = input.array<float>(rows * dim), weight = input.array<float>(dim);
  expect_same_on_all<float>(rows * dim, "rmsnorm differs", [&](cria_device* device, float* out) {
    return cria_rmsnorm(device, rows, dim, x.data(), weight.data(), eps, out);
  });
}

void quantize(Input& input) {
  const std::size_t rows = input.within(0, 3), dim = input.within(1, 200), stride = (dim + 63) / 64 * 64;
  const auto x = input.array<float>(rows * dim);
  const std::size_t blocks = rows * stride / 32;
  const auto run = [&](cria_device* device, std::vector<std::int8_t>& quants, std::vector<float>& scales,
                       std::vector<std::int32_t>& sums) {
    // Nothing of the last device's may pass for this one's.
    quants.assign(quants.size(), 0);
    scales.assign(blocks, 0);
    sums.assign(blocks, 0);
    return cria_quantize(device, rows, dim, x.data(), quants.data(), scales.data(), sums.data());
  };
  std::vector<std::int8_t> quants(rows * stride);
  std::vector<float> scales(blocks);
  std::vector<std::int32_t> sums(blocks);
  expect_same_on_all<std::int8_t>(rows * stride, "quants differ", [&](cria_device* device, std::int8_t* out) {
    const cria_status status = run(device, quants, scales, sums);
    std::copy(quants.begin(), quants.end(), out);
    return status;
  });
  expect_same_on_all<float>(blocks, "scales differ", [&](cria_device* device, float* out) {
    const cria_status status = run(device, quants, scales, sums);
    std::copy(scales.begin(), scales.end(), out);
    return status;
  });
  expect_same_on_all<std::int32_t>(blocks, "sums differ", [&](cria_device* device, std::int32_t* out) {
    const cria_status status = run(device, quants, scales, sums);
    std::copy(sums.begin(), sums.end(), out);
    return status;
  });
}

struct Weights {
  cria_type type;
  std::size_t rows, cols;
  std::vector<std::uint8_t> data;
};

Weights read_weights(Input& input) {
  Weights weights{.type = kWeightTypes[input.below(std::size(kWeightTypes))].type,
                  .rows = input.within(1, 50),
                  .cols = input.within(1, 80)};
  if (is_quantised(weights.type)) weights.cols = (weights.cols % 5 + 1) * weight_type(weights.type).block;
  weights.data = input.array<std::uint8_t>(weights.rows * row_bytes(weights.type, weights.cols));
  return weights;
}

void embed(Input& input) {
  const Weights weights = read_weights(input);
  std::vector<std::int32_t> tokens(input.below(6));
  for (std::int32_t& token : tokens) {
    token = input.rarely() ? input.hostile_int() : static_cast<std::int32_t>(input.below(weights.rows));
  }
  expect_same_on_all<float>(tokens.size() * weights.cols, "embed differs", [&](cria_device* device, float* out) {
    const Tensor table = pack_matrix(device, weights.type, weights.rows, weights.cols, weights.data);
    return cria_embed(device, table.get(), tokens.size(), tokens.data(), out);
  });
}

void matmul(Input& input) {
  const Weights weights = read_weights(input);
  const std::size_t tokens = input.below(12);
  const auto x = input.array<float>(tokens * weights.cols);
  expect_same_on_all<float>(tokens * weights.rows, "matmul differs", [&](cria_device* device, float* out) {
    const Tensor matrix = pack_matrix(device, weights.type, weights.rows, weights.cols, weights.data);
    return cria_matmul(device, matrix.get(), tokens, x.data(), out);
  });
}

// What is packed comes back byte for byte, from any row on.
void pack(Input& input) {
  const Weights weights = read_weights(input);
  const Tensor matrix = pack_matrix(devices()[0].get(), weights.type, weights.rows, weights.cols, weights.data);
  const std::size_t row = input.below(weights.rows), rows = input.within(0, weights.rows - row);
  const std::size_t bytes = row_bytes(weights.type, weights.cols);
  std::vector<std::uint8_t> back(rows * bytes);
  expect(succeeded(cria_tensor_unpack(matrix.get(), row, rows, back.data(), back.size())), "rows cannot be unpacked");
  const auto original = std::span(weights.data).subspan(row * bytes, back.size());
  expect(same<std::uint8_t>(back, original), "unpacked rows differ");
}

// A layer of a cache, as cria_kv_layer has it.
struct Layer {
  cria_type key_type, value_type;
  std::size_t blocks, kv_heads, head_dim;
  std::vector<std::uint8_t> k, v;
};

Layer read_layer(Input& input) {
  Layer layer{.key_type = kCacheTypes[input.below(3)],
              .value_type = kCacheTypes[input.below(3)],
              .blocks = input.within(1, 12),
              .kv_heads = input.within(1, 2),
              .head_dim = 8 * input.within(1, 9)};
  const std::size_t heads = layer.blocks * layer.kv_heads;
  layer.k = input.array<std::uint8_t>(heads * head_bytes(layer.key_type, layer.head_dim));
  layer.v = input.array<std::uint8_t>(heads * head_bytes(layer.value_type, layer.head_dim));
  return layer;
}

cria_kv_layer view(Layer& layer) {
  return {.struct_size = sizeof(cria_kv_layer),
          .key_type = layer.key_type,
          .value_type = layer.value_type,
          .blocks = layer.blocks,
          .kv_heads = layer.kv_heads,
          .head_dim = layer.head_dim,
          .k = layer.k.data(),
          .v = layer.v.data()};
}

void attention(Input& input) {
  Layer layer = read_layer(input);
  const std::size_t heads = layer.kv_heads * input.within(1, 3);
  BatchArrays arrays = read_batch(input, layer.blocks, 256, 20);
  if (input.rarely()) spoil(input, arrays);
  const cria_batch batch = view(arrays);
  const std::size_t width = heads * layer.head_dim, stride = width + input.below(9);
  const auto q = input.array<float>(batch.token_count * stride);
  const cria_kv_layer cache = view(layer);
  expect_same_on_all<float>(batch.token_count * width, "attention differs", [&](cria_device* device, float* out) {
    return cria_attention(device, &batch, heads, &cache, q.data(), stride, out);
  });
}

void rope(Input& input) {
  const Layer layer = read_layer(input);
  BatchArrays arrays = read_batch(input, layer.blocks, 256, 20);
  if (input.rarely()) spoil(input, arrays);
  const cria_batch batch = view(arrays);
  const std::size_t heads = layer.kv_heads * input.within(1, 3);
  // As many as any rotary_dim that passes has pairs.
  const std::vector<double> frequencies(128, input.take<double>());
  const cria_rope_options options{.struct_size = sizeof(options),
                                  .heads = heads,
                                  .rotary_dim = input.rarely() ? input.hostile_size() : 2 * input.within(1, 8),
                                  .halves = static_cast<std::int32_t>(input.below(2)),
                                  .theta = input.take<double>(),
                                  .scale = input.take<double>(),
                                  .frequencies = input.below(2) == 0 ? frequencies.data() : nullptr,
                                  .magnitude = input.rarely() ? input.take<double>() : 0};
  const std::size_t count = batch.token_count * (heads + 2 * layer.kv_heads) * layer.head_dim;
  const auto qkv = input.array<float>(count);
  std::vector<Layer> written;
  expect_same_on_all<float>(count, "rope differs", [&](cria_device* device, float* out) {
    std::copy(qkv.begin(), qkv.end(), out);
    Layer& own = written.emplace_back(layer);
    const cria_kv_layer cache = view(own);
    return cria_rope(device, &batch, &options, &cache, out);
  });
  for (const Layer& other : written) {
    const bool same_keys = same_heads(std::span(&layer.key_type, 1), layer.head_dim, other.k, written[0].k);
    const bool same_values = same_heads(std::span(&layer.value_type, 1), layer.head_dim, other.v, written[0].v);
    expect(same_keys && same_values, "rope writes another cache");
  }
}

void swiglu(Input& input) {
  const std::size_t rows = input.within(0, 3), dim = input.within(1, 100);
  const auto gate_up = input.array<float>(rows * 2 * dim);
  expect_same_on_all<float>(rows * dim, "swiglu differs", [&](cria_device* device, float* out) {
    return cria_swiglu(device, rows, dim, gate_up.data(), out);
  });
}

void add(Input& input) {
  const std::size_t count = input.below(256) * (input.rarely() ? 40 : 1);
  const auto x = input.array<float>(count), y = input.array<float>(count);
  expect_same_on_all<float>(count, "add differs", [&](cria_device* device, float* out) {
    return cria_add(device, count, x.data(), y.data(), out);
  });
}

}  // namespace
}  // namespace cria::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cria::fuzz;
  constexpr std::array kKernels{rmsnorm, quantize, embed, matmul, pack, attention, rope, swiglu, add};
  Input input(data, size);
  kKernels[input.below(kKernels.size())](input);
  return 0;
}
