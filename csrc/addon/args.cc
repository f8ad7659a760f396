#include "args.h"

#include <cmath>
#include <functional>

namespace cria::addon {
namespace {

const char* array_kind(const Napi::TypedArray& array) {
  switch (array.TypedArrayType()) {
    case napi_float32_array:
      return ElementKind<float>::name;
    case napi_float64_array:
      return ElementKind<double>::name;
    case napi_int32_array:
      return ElementKind<std::int32_t>::name;
    case napi_int8_array:
      return ElementKind<std::int8_t>::name;
    case napi_uint8_array:
      return ElementKind<std::uint8_t>::name;
    case napi_uint16_array:
      return ElementKind<std::uint16_t>::name;
    default:
      return "another typed array";
  }
}

std::string show(const Napi::Value& value) {
  if (value.IsNumber() || value.IsBoolean() || value.IsUndefined() || value.IsNull() || value.IsBigInt()) {
    return value.ToString().Utf8Value();
  }
  if (value.IsString()) {
    const std::string text = value.As<Napi::String>().Utf8Value();
    return text.size() > 60 ? "a long string" : "\"" + text + "\"";
  }
  if (value.IsTypedArray()) return array_kind(value.As<Napi::TypedArray>());
  return value.IsFunction() ? "a function" : value.IsSymbol() ? "a symbol" : "another object";
}

Napi::Error wrong_type(const Napi::Value& value, const char* name, const std::string& expected) {
  return type_error(value.Env(), std::string(name) + ": must be " + expected + ", not " + show(value));
}

}  // namespace

std::pair<void*, std::size_t> typed_array(const Napi::Value& value, napi_typedarray_type type, const char* kind,
                                          const char* name) {
  const Napi::Env env = value.Env();
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw wrong_type(value, name, kind);
  }
  std::size_t length = 0, offset = 0;
  void* data = nullptr;
  napi_value buffer = nullptr;
  check(env, napi_get_typedarray_info(env, value, nullptr, &length, &data, &buffer, &offset));
  bool detached = false;
  check(env, napi_is_detached_arraybuffer(env, buffer, &detached));
  if (detached) throw type_error(env, std::string(name) + ": must not be detached");
  if (data == nullptr) length = 0;  // an empty array, or one whose buffer has shrunk below it
  return {data, length};
}

double get_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) throw wrong_type(value, name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

std::size_t get_size(const Napi::Value& value, const char* name, std::size_t min) {
  const double number = get_number(value, name);
  if (std::floor(number) == number && number >= static_cast<double>(min) && number <= kMaxSafeInteger) {
    return static_cast<std::size_t>(number);
  }
  throw range_error(value.Env(), std::string(name) + ": must be an integer of at least " + std::to_string(min) +
                                     ", not " + show(value));
}

std::int32_t get_int32(const Napi::Value& value, const char* name) {
  const double number = get_number(value, name);
  if (std::floor(number) == number && number >= INT32_MIN && number <= INT32_MAX)
    return static_cast<std::int32_t>(number);
  throw range_error(value.Env(), std::string(name) + ": must be a 32-bit integer, not " + show(value));
}

bool get_boolean(const Napi::Value& value, const char* name) {
  if (!value.IsBoolean()) throw wrong_type(value, name, "a boolean");
  return value.As<Napi::Boolean>().Value();
}

std::string get_string(const Napi::Value& value, const char* name) {
  if (!value.IsString()) throw wrong_type(value, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

Napi::Object get_object(const Napi::Value& value, const char* name) {
  if (!value.IsObject()) throw wrong_type(value, name, "an object");
  return value.As<Napi::Object>();
}

std::int32_t get_named(const Napi::Value& value, const char* name, std::span<const Named> names) {
  const std::string given = get_string(value, name);
  std::string expected;
  for (const Named& named : names) {
    if (given == named.name) return named.value;
    expected += (expected.empty() ? "" : ", ") + std::string(named.name);
  }
  throw range_error(value.Env(), std::string(name) + ": must be one of " + expected + ", not " + show(value));
}

const char* name_of(std::int32_t value, std::span<const Named> names) {
  for (const Named& named : names) {
    if (named.value == value) return named.name;
  }
  return "";
}

std::vector<std::int32_t> copy_int32s(const Napi::Value& value, const char* name) {
  const auto array = get_array<std::int32_t>(value, name);
  return {array.data, array.data + array.length};
}

void require_length(Napi::Env env, const char* name, std::size_t actual, std::size_t expected) {
  if (actual == expected) return;
  throw range_error(
      env, std::string(name) + ": its length must be " + std::to_string(expected) + ", not " + std::to_string(actual));
}

void require_apart(Napi::Env env, const char* out, const void* out_data, std::size_t out_bytes, const char* in,
                   const void* in_data, std::size_t in_bytes, bool same) {
  const auto o = reinterpret_cast<std::uintptr_t>(out_data), i = reinterpret_cast<std::uintptr_t>(in_data);
  if (out_bytes == 0 || in_bytes == 0 || o + out_bytes <= i || i + in_bytes <= o || (same && o == i)) return;
  throw range_error(env, std::string(out) + ": must not overlap " + in);
}

BatchCopy::BatchCopy(const Napi::Value& value) {
  const Napi::Object object = get_object(value, "batch");
  tokens_ = copy_int32s(object.Get("tokens"), "batch.tokens");
  positions_ = copy_int32s(object.Get("positions"), "batch.positions");
  lengths_ = copy_int32s(object.Get("lengths"), "batch.lengths");
  pasts_ = copy_int32s(object.Get("pasts"), "batch.pasts");
  block_counts_ = copy_int32s(object.Get("blockCounts"), "batch.blockCounts");
  blocks_ = copy_int32s(object.Get("blocks"), "batch.blocks");
  outputs_ = copy_int32s(object.Get("outputs"), "batch.outputs");

  // The longest of the two counts the tokens: a kernel may need only one of them, and what it needs must be that long.
  const std::size_t count = std::max(tokens_.size(), positions_.size());
  if (!tokens_.empty()) require_length(value.Env(), "batch.tokens", tokens_.size(), count);
  if (!positions_.empty()) require_length(value.Env(), "batch.positions", positions_.size(), count);
  require_length(value.Env(), "batch.pasts", pasts_.size(), lengths_.size());
  require_length(value.Env(), "batch.blockCounts", block_counts_.size(), lengths_.size());
  std::size_t tokens = count;
  if (count == 0) {  // attention needs neither
    for (const std::int32_t length : lengths_) tokens += length > 0 ? static_cast<std::size_t>(length) : 0;
  }
  const auto data = [](std::vector<std::int32_t>& v) { return v.empty() ? nullptr : v.data(); };
  batch_ = {.struct_size = sizeof(cria_batch),
            .token_count = tokens,
            .sequence_count = lengths_.size(),
            .block_count = blocks_.size(),
            .output_count = outputs_.size(),
            .tokens = data(tokens_),
            .positions = data(positions_),
            .lengths = data(lengths_),
            .pasts = data(pasts_),
            .block_counts = data(block_counts_),
            .blocks = data(blocks_),
            .outputs = data(outputs_)};
}

RopeCopy::RopeCopy(const Napi::Value& value, const std::string& name) {
  const Napi::Object object = get_object(value, name.c_str());
  const auto field = [&](const char* key) { return name + "." + key; };
  options_ = {.struct_size = sizeof(cria_rope_options),
              .heads = get_size(object.Get("heads"), field("heads").c_str()),
              .rotary_dim = get_size(object.Get("rotaryDim"), field("rotaryDim").c_str()),
              .halves = get_boolean(object.Get("halves"), field("halves").c_str()),
              .theta = get_number(object.Get("theta"), field("theta").c_str()),
              .scale = get_number(object.Get("scale"), field("scale").c_str()),
              .frequencies = nullptr,
              .magnitude = 0};
  const Napi::Value magnitude = object.Get("magnitude"), frequencies = object.Get("frequencies");
  if (!magnitude.IsUndefined()) options_.magnitude = get_number(magnitude, field("magnitude").c_str());
  if (frequencies.IsUndefined()) return;
  const std::string array_name = field("frequencies");
  const auto array = get_array<double>(frequencies, array_name.c_str());
  require_length(value.Env(), array_name.c_str(), array.length, options_.rotary_dim / 2);
  // Never null, which would ask for theta's: of no pairs, an error follows.
  frequencies_.assign(array.data, array.data + array.length);
  frequencies_.push_back(0);
  options_.frequencies = frequencies_.data();
}

cria_cache_options get_cache_shape(const Napi::Value& value, const char* name) {
  const Napi::Object object = get_object(value, name);
  return {.struct_size = sizeof(cria_cache_options),
          .key_type = get_named(object.Get("keys"), "shape.keys", kCacheTypes),
          .value_type = get_named(object.Get("values"), "shape.values", kCacheTypes),
          .layers = get_size(object.Get("layers"), "shape.layers"),
          .kv_heads = get_size(object.Get("kvHeads"), "shape.kvHeads"),
          .head_dim = get_size(object.Get("headDim"), "shape.headDim"),
          .blocks = 0};
}

}  // namespace cria::addon
