// A call's arguments, checked: each accessor takes the argument's place and its name, and throws an error that names
// it.
#pragma once

#include <napi.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "handle.h"

namespace cria::addon {

constexpr double kMaxSafeInteger = 9007199254740991.0;  // 2^53 - 1

// Elements of JavaScript's typed arrays.
template <class T>
struct ElementKind;  // { napi_typedarray_type type; const char* name; }

#define CRIA_ELEMENT(element, array, article)           \
  template <>                                           \
  struct ElementKind<element> {                         \
    static constexpr napi_typedarray_type type = array; \
    static constexpr const char* name = article;        \
  }
CRIA_ELEMENT(float, napi_float32_array, "a Float32Array");
CRIA_ELEMENT(double, napi_float64_array, "a Float64Array");
CRIA_ELEMENT(std::int32_t, napi_int32_array, "an Int32Array");
CRIA_ELEMENT(std::int8_t, napi_int8_array, "an Int8Array");
CRIA_ELEMENT(std::uint8_t, napi_uint8_array, "a Uint8Array");
CRIA_ELEMENT(std::uint16_t, napi_uint16_array, "a Uint16Array");
#undef CRIA_ELEMENT

// A typed array's memory, valid until the call returns to JavaScript.
template <class T>
struct Array {
  const char* name;
  T* data;
  std::size_t length;

  std::size_t bytes() const { return length * sizeof(T); }
};

// Its data and length; throws where it is of another type or detached.
std::pair<void*, std::size_t> typed_array(const Napi::Value& value, napi_typedarray_type type, const char* kind,
                                          const char* name);

template <class T>
Array<T> get_array(const Napi::Value& value, const char* name) {
  const auto [data, length] = typed_array(value, ElementKind<T>::type, ElementKind<T>::name, name);
  return {name, static_cast<T*>(data), length};
}

// A copy of an Int32Array, for work that outlives the call.
std::vector<std::int32_t> copy_int32s(const Napi::Value& value, const char* name);

// An integer from `min` to 2^53 - 1.
std::size_t get_size(const Napi::Value& value, const char* name, std::size_t min = 0);
std::int32_t get_int32(const Napi::Value& value, const char* name);
double get_number(const Napi::Value& value, const char* name);
bool get_boolean(const Napi::Value& value, const char* name);
std::string get_string(const Napi::Value& value, const char* name);
Napi::Object get_object(const Napi::Value& value, const char* name);

// The one of `names` that the string is, as its value.
struct Named {
  const char* name;
  std::int32_t value;
};
std::int32_t get_named(const Napi::Value& value, const char* name, std::span<const Named> names);
const char* name_of(std::int32_t value, std::span<const Named> names);

inline constexpr Named kDeviceKinds[] = {
    {"cpu", CRIA_DEVICE_CPU}, {"cuda", CRIA_DEVICE_CUDA}, {"cuda-emulated", CRIA_DEVICE_CUDA_EMULATED}};
inline constexpr Named kIsas[] = {{"scalar", CRIA_ISA_SCALAR}, {"avx2", CRIA_ISA_AVX2}, {"avx512", CRIA_ISA_AVX512}};
inline constexpr Named kLimits[] = {{"read", CRIA_LIMIT_READ},     {"copy", CRIA_LIMIT_COPY},
                                    {"fma", CRIA_LIMIT_FMA},       {"maddubs", CRIA_LIMIT_MADDUBS},
                                    {"dpbusd", CRIA_LIMIT_DPBUSD}, {"bf16dot", CRIA_LIMIT_BF16DOT}};
inline constexpr Named kWeightTypes[] = {
    {"f32", CRIA_TYPE_F32},   {"f16", CRIA_TYPE_F16},       {"bf16", CRIA_TYPE_BF16}, {"q8_0", CRIA_TYPE_Q8_0},
    {"q4_0", CRIA_TYPE_Q4_0}, {"q4_1", CRIA_TYPE_Q4_1},     {"q5_0", CRIA_TYPE_Q5_0}, {"q5_1", CRIA_TYPE_Q5_1},
    {"q2_K", CRIA_TYPE_Q2_K}, {"q3_K", CRIA_TYPE_Q3_K},     {"q4_K", CRIA_TYPE_Q4_K}, {"q5_K", CRIA_TYPE_Q5_K},
    {"q6_K", CRIA_TYPE_Q6_K}, {"iq4_nl", CRIA_TYPE_IQ4_NL}, {"q4_z", CRIA_TYPE_Q4_Z}};
inline constexpr Named kInt4Layouts[] = {{"gptq", CRIA_INT4_GPTQ}, {"awq", CRIA_INT4_AWQ}};
inline constexpr Named kCacheTypes[] = {{"f32", CRIA_TYPE_F32}, {"f16", CRIA_TYPE_F16}, {"q8_0", CRIA_TYPE_Q8_0}};

// Throws "NAME: its length must be LENGTH, not ..." where it is not.
void require_length(Napi::Env env, const char* name, std::size_t actual, std::size_t expected);

// Throws where the output shares memory with the input, unless it is that very array and `same` allows it.
void require_apart(Napi::Env env, const char* out, const void* out_data, std::size_t out_bytes, const char* in,
                   const void* in_data, std::size_t in_bytes, bool same = false);

template <class Out, class In>
void require_apart(Napi::Env env, const Array<Out>& out, const Array<In>& in, bool same = false) {
  require_apart(env, out.name, out.data, out.bytes(), in.name, in.data, in.bytes(), same);
}

// A copy of a NativeBatch that a cria_batch points into: it outlives the call.
class BatchCopy {
 public:
  explicit BatchCopy(const Napi::Value& value);
  BatchCopy(BatchCopy&&) = default;  // a moved vector keeps its memory, so the pointers stay right

  const cria_batch& get() const { return batch_; }

 private:
  std::vector<std::int32_t> tokens_, positions_, lengths_, pasts_, block_counts_, blocks_, outputs_;
  cria_batch batch_;
};

// A copy of RopeOptions that a cria_rope_options points into: it outlives the call.
class RopeCopy {
 public:
  RopeCopy(const Napi::Value& value, const std::string& name);
  RopeCopy(RopeCopy&&) = default;  // a moved vector keeps its memory, so the pointer stays right

  const cria_rope_options& get() const { return options_; }

 private:
  std::vector<double> frequencies_;
  cria_rope_options options_;
};

cria_cache_options get_cache_shape(const Napi::Value& value, const char* name);

}  // namespace cria::addon
