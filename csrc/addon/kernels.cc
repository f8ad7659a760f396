// The single kernels, on typed arrays: shapes follow from the arrays' lengths, outputs are the caller's.
#include "args.h"
#include "exports.h"

namespace cria::addon {
namespace {

std::shared_ptr<cria_device> device_of(const Napi::CallbackInfo& info) {
  return get_handle<cria_device>(info[0], "device");
}

// a * b, for lengths that arrays are held against.
std::size_t product(Napi::Env env, std::size_t a, std::size_t b) {
  std::size_t result;
  if (__builtin_mul_overflow(a, b, &result)) throw range_error(env, "the shape exceeds the address space");
  return result;
}

// How many rows of `dim`, which is not 0, an array holds.
template <class T>
std::size_t rows_of(Napi::Env env, const Array<T>& array, std::size_t dim, const char* of) {
  if (array.length % dim != 0) {
    throw range_error(env, std::string(array.name) + ": its length must be a multiple of " + of + " " +
                               std::to_string(dim) + ", not " + std::to_string(array.length));
  }
  return array.length / dim;
}

Napi::Value done(const Napi::CallbackInfo& info, cria_status status) {
  check(info.Env(), status);
  return info.Env().Undefined();
}

Napi::Value rmsnorm(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const auto x = get_array<float>(info[1], "x"), weight = get_array<float>(info[2], "weight");
  const double eps = get_number(info[3], "eps");
  const auto out = get_array<float>(info[4], "out");
  if (weight.length == 0) throw range_error(env, "weight: its length must be at least 1, not 0");
  const std::size_t rows = rows_of(env, x, weight.length, "weight's");
  require_length(env, "out", out.length, x.length);
  require_apart(env, out, x, /*same=*/true);
  require_apart(env, out, weight);
  return done(info,
              cria_rmsnorm(device.get(), rows, weight.length, x.data, weight.data, static_cast<float>(eps), out.data));
}

Napi::Value quantize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const std::size_t dim = get_size(info[1], "dim", 1);
  const auto x = get_array<float>(info[2], "x");
  const auto quants = get_array<std::int8_t>(info[3], "quants");
  const auto scales = get_array<float>(info[4], "scales");
  const auto sums = get_array<std::int32_t>(info[5], "sums");
  const std::size_t rows = rows_of(env, x, dim, "dim"), stride = dim / 64 + (dim % 64 != 0);  // superblocks
  require_length(env, "quants", quants.length, product(env, rows, stride * 64));
  require_length(env, "scales", scales.length, product(env, rows, stride * 2));
  require_length(env, "sums", sums.length, product(env, rows, stride * 2));
  require_apart(env, quants, x);
  require_apart(env, scales, x);
  require_apart(env, sums, x);
  require_apart(env, scales, quants);
  require_apart(env, sums, quants);
  require_apart(env, sums, scales);
  return done(info, cria_quantize(device.get(), rows, dim, x.data, quants.data, scales.data, sums.data));
}

Napi::Value embed(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const auto table = get_handle<cria_tensor>(info[1], "table");
  const auto tokens = get_array<std::int32_t>(info[2], "tokens");
  const auto out = get_array<float>(info[3], "out");
  require_length(env, "out", out.length, product(env, tokens.length, cria_tensor_cols(table.get())));
  require_apart(env, out, tokens);
  // A copy: of shared memory, another thread could change a token between its check and its use.
  const std::vector<std::int32_t> ids(tokens.data, tokens.data + tokens.length);
  return done(info, cria_embed(device.get(), table.get(), ids.size(), ids.data(), out.data));
}

Napi::Value matmul(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const auto weight = get_handle<cria_tensor>(info[1], "weight");
  const auto x = get_array<float>(info[2], "x"), out = get_array<float>(info[3], "out");
  const std::size_t tokens = rows_of(env, x, cria_tensor_cols(weight.get()), "weight's cols");
  require_length(env, "out", out.length, product(env, tokens, cria_tensor_rows(weight.get())));
  require_apart(env, out, x);
  return done(info, cria_matmul(device.get(), weight.get(), tokens, x.data, out.data));
}

// A side, K or V, of KvArrays.
struct Side {
  void* data;
  std::size_t length, bytes;
};

template <class T>
Side get_side_of(const Napi::Value& value, const char* name) {
  const auto array = get_array<T>(value, name);
  return {array.data, array.length, array.bytes()};
}

Side get_side(const Napi::Value& value, const char* name, cria_type type) {
  if (type == CRIA_TYPE_F32) return get_side_of<float>(value, name);
  if (type == CRIA_TYPE_F16) return get_side_of<std::uint16_t>(value, name);
  const Side side = get_side_of<std::uint8_t>(value, name);
  if (reinterpret_cast<std::uintptr_t>(side.data) % alignof(std::uint16_t) != 0) {
    throw range_error(value.Env(), std::string(name) + ": must begin at an even byte of its buffer, for its scales");
  }
  return side;
}

// The length of a side's array: of q8_0 its bytes, quants and scales (see cria_kv_layer). Sizes are below 2^53, so the
// sum cannot overflow.
std::size_t side_length(Napi::Env env, const cria_kv_layer& layer, cria_type type) {
  const std::size_t heads = product(env, layer.blocks, layer.kv_heads);
  const std::size_t quants = product(env, layer.head_dim, CRIA_KV_BLOCK);
  if (type != CRIA_TYPE_Q8_0) return product(env, heads, quants);
  const std::size_t scales = (layer.head_dim / 32 + (layer.head_dim % 32 != 0)) * CRIA_KV_BLOCK * sizeof(std::uint16_t);
  return product(env, heads, quants + scales);
}

struct Layer {
  cria_kv_layer layer;
  Side k, v;
};

Layer get_layer(const Napi::Value& value) {
  const Napi::Env env = value.Env();
  const Napi::Object object = get_object(value, "cache");
  cria_kv_layer layer{.struct_size = sizeof(cria_kv_layer),
                      .key_type = get_named(object.Get("keys"), "cache.keys", kCacheTypes),
                      .value_type = get_named(object.Get("values"), "cache.values", kCacheTypes),
                      .blocks = get_size(object.Get("blocks"), "cache.blocks"),
                      .kv_heads = get_size(object.Get("kvHeads"), "cache.kvHeads", 1),
                      .head_dim = get_size(object.Get("headDim"), "cache.headDim", 1)};
  // The memory is looked up last: a getter could detach it.
  const Napi::Value k_value = object.Get("k"), v_value = object.Get("v");
  const Side k = get_side(k_value, "cache.k", layer.key_type), v = get_side(v_value, "cache.v", layer.value_type);
  layer.k = k.data;
  layer.v = v.data;
  require_length(env, "cache.k", k.length, side_length(env, layer, layer.key_type));
  require_length(env, "cache.v", v.length, side_length(env, layer, layer.value_type));
  require_apart(env, "cache.v", v.data, v.bytes, "cache.k", k.data, k.bytes);
  return {layer, k, v};
}

void require_apart_from(Napi::Env env, const Array<float>& array, const Layer& cache) {
  require_apart(env, array.name, array.data, array.bytes(), "cache.k", cache.k.data, cache.k.bytes);
  require_apart(env, array.name, array.data, array.bytes(), "cache.v", cache.v.data, cache.v.bytes);
}

Napi::Value rope(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const BatchCopy batch(info[1]);
  const RopeCopy copy(info[2], "options");
  const cria_rope_options& options = copy.get();
  const Layer cache = get_layer(info[3]);
  const auto qkv = get_array<float>(info[4], "qkv");
  // Twice the kv heads cannot overflow: the cache's arrays hold more.
  const std::size_t heads = options.heads > SIZE_MAX / 2 ? SIZE_MAX / 2 : options.heads;
  const std::size_t width = product(env, heads + 2 * cache.layer.kv_heads, cache.layer.head_dim);
  require_length(env, "qkv", qkv.length, product(env, batch.get().token_count, width));
  require_apart_from(env, qkv, cache);
  return done(info, cria_rope(device.get(), &batch.get(), &options, &cache.layer, qkv.data));
}

Napi::Value attention(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const BatchCopy batch(info[1]);
  const std::size_t heads = get_size(info[2], "heads", 1);
  const Layer cache = get_layer(info[3]);
  const auto q = get_array<float>(info[4], "q");
  const std::size_t q_stride = get_size(info[5], "qStride", 1);
  const auto out = get_array<float>(info[6], "out");
  const std::size_t tokens = batch.get().token_count, width = product(env, heads, cache.layer.head_dim);
  require_length(env, "q", q.length, product(env, tokens, q_stride));
  require_length(env, "out", out.length, product(env, tokens, width));
  require_apart(env, out, q);
  require_apart_from(env, out, cache);
  return done(info, cria_attention(device.get(), &batch.get(), heads, &cache.layer, q.data, q_stride, out.data));
}

Napi::Value swiglu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const std::size_t dim = get_size(info[1], "dim", 1);
  const auto gate_up = get_array<float>(info[2], "gateUp"), out = get_array<float>(info[3], "out");
  const std::size_t rows = rows_of(env, out, dim, "dim");
  require_length(env, "gateUp", gate_up.length, product(env, out.length, 2));
  require_apart(env, out, gate_up);
  return done(info, cria_swiglu(device.get(), rows, dim, gate_up.data, out.data));
}

Napi::Value add(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto device = device_of(info);
  const auto x = get_array<float>(info[1], "x"), y = get_array<float>(info[2], "y"),
             out = get_array<float>(info[3], "out");
  require_length(env, "y", y.length, x.length);
  require_length(env, "out", out.length, x.length);
  require_apart(env, out, x, /*same=*/true);
  require_apart(env, out, y, /*same=*/true);
  return done(info, cria_add(device.get(), x.length, x.data, y.data, out.data));
}

}  // namespace

void export_kernels(Napi::Env env, Napi::Object exports) {
  export_function<rmsnorm>(env, exports, "rmsnorm");
  export_function<quantize>(env, exports, "quantize");
  export_function<embed>(env, exports, "embed");
  export_function<matmul>(env, exports, "matmul");
  export_function<rope>(env, exports, "rope");
  export_function<attention>(env, exports, "attention");
  export_function<swiglu>(env, exports, "swiglu");
  export_function<add>(env, exports, "add");
}

}  // namespace cria::addon
