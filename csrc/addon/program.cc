#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "args.h"
#include "exports.h"
#include "work.h"

namespace cria::addon {
namespace {

constexpr Named kRows[] = {{"tokens", CRIA_ROWS_TOKENS}, {"outputs", CRIA_ROWS_OUTPUTS}};

std::shared_ptr<cria_program> program_of(const Napi::CallbackInfo& info) {
  return get_handle<cria_program>(info[0], "program");
}

// Ends a recording function.
Napi::Value recorded(const Napi::CallbackInfo& info, cria_status status) {
  check(info.Env(), status);
  return info.Env().Undefined();
}

Napi::Value program_create(const Napi::CallbackInfo& info) {
  const cria_cache_options shape = get_cache_shape(info[1], "shape");
  cria_program* program = nullptr;
  check(info.Env(), cria_program_create(get_handle<cria_device>(info[0], "device").get(), &shape, &program));
  return make_handle(info.Env(), program);
}

Napi::Value program_value(const Napi::CallbackInfo& info) {
  cria_value value = -1;
  check(info.Env(), cria_program_value(program_of(info).get(), get_named(info[1], "rows", kRows),
                                       get_size(info[2], "width"), &value));
  return Napi::Number::New(info.Env(), value);
}

Napi::Value program_embed(const Napi::CallbackInfo& info) {
  return recorded(info, cria_program_embed(program_of(info).get(), get_handle<cria_tensor>(info[1], "table").get(),
                                           get_int32(info[2], "out")));
}

Napi::Value program_rmsnorm(const Napi::CallbackInfo& info) {
  return recorded(info,
                  cria_program_rmsnorm(program_of(info).get(), get_int32(info[1], "x"),
                                       get_handle<cria_tensor>(info[2], "weight").get(),
                                       static_cast<float>(get_number(info[3], "eps")), get_int32(info[4], "out")));
}

Napi::Value program_matmul(const Napi::CallbackInfo& info) {
  return recorded(info, cria_program_matmul(program_of(info).get(), get_int32(info[1], "x"),
                                            get_handle<cria_tensor>(info[2], "weight").get(), get_int32(info[3], "out"),
                                            get_size(info[4], "column")));
}

Napi::Value program_matmul_add(const Napi::CallbackInfo& info) {
  return recorded(info,
                  cria_program_matmul_add(program_of(info).get(), get_int32(info[1], "x"),
                                          get_handle<cria_tensor>(info[2], "weight").get(), get_int32(info[3], "out")));
}

Napi::Value program_matmul_swiglu(const Napi::CallbackInfo& info) {
  return recorded(
      info, cria_program_matmul_swiglu(program_of(info).get(), get_int32(info[1], "x"),
                                       get_handle<cria_tensor>(info[2], "weight").get(), get_int32(info[3], "out")));
}

Napi::Value program_rope(const Napi::CallbackInfo& info) {
  const RopeCopy options(info[3], "options");
  return recorded(info, cria_program_rope(program_of(info).get(), get_int32(info[1], "qkv"), get_size(info[2], "layer"),
                                          &options.get()));
}

Napi::Value program_attention(const Napi::CallbackInfo& info) {
  return recorded(info,
                  cria_program_attention(program_of(info).get(), get_int32(info[1], "qkv"), get_size(info[2], "layer"),
                                         get_size(info[3], "heads"), get_int32(info[4], "out")));
}

Napi::Value program_prefix_attention(const Napi::CallbackInfo& info) {
  const auto tensor = [&](std::size_t i, const char* name) { return get_handle<cria_tensor>(info[i], name); };
  return recorded(info, cria_program_prefix_attention(program_of(info).get(), get_int32(info[1], "qkv"),
                                                      tensor(2, "keys").get(), tensor(3, "values").get(),
                                                      tensor(4, "gates").get(), get_int32(info[5], "out")));
}

Napi::Value program_swiglu(const Napi::CallbackInfo& info) {
  return recorded(info,
                  cria_program_swiglu(program_of(info).get(), get_int32(info[1], "gateUp"), get_int32(info[2], "out")));
}

Napi::Value program_add(const Napi::CallbackInfo& info) {
  return recorded(info, cria_program_add(program_of(info).get(), get_int32(info[1], "x"), get_int32(info[2], "y"),
                                         get_int32(info[3], "out")));
}

Napi::Value program_select(const Napi::CallbackInfo& info) {
  return recorded(info,
                  cria_program_select(program_of(info).get(), get_int32(info[1], "x"), get_int32(info[2], "out")));
}

Napi::Value program_gather(const Napi::CallbackInfo& info) {
  const auto columns = get_array<std::int32_t>(info[2], "columns");
  return recorded(info, cria_program_gather(program_of(info).get(), get_int32(info[1], "x"), columns.data,
                                            columns.length, get_int32(info[3], "out")));
}

Napi::Value program_finish(const Napi::CallbackInfo& info) {
  return recorded(info, cria_program_finish(program_of(info).get(), get_int32(info[1], "result")));
}

Napi::Value cancel_create(const Napi::CallbackInfo& info) {
  cria_cancel* cancel = nullptr;
  check(info.Env(), cria_cancel_create(&cancel));
  return make_handle(info.Env(), cancel);
}

Napi::Value cancel_trigger(const Napi::CallbackInfo& info) {
  cria_cancel_trigger(get_handle<cria_cancel>(info[0], "cancel").get());
  return info.Env().Undefined();
}

struct ProgramRun {
  std::shared_ptr<cria_program> program;
  std::shared_ptr<cria_cache> cache;
  std::shared_ptr<cria_cancel> cancel;
  BatchCopy batch;
  std::size_t count;
  std::unique_ptr<float[]> floats;

  cria_status run() {
    return cria_program_run(program.get(), cache.get(), &batch.get(), cancel.get(), floats.get(), count);
  }
  Napi::Value result(Napi::Env env) const {
    Napi::Float32Array array = Napi::Float32Array::New(env, count);
    if (count > 0) std::memcpy(array.Data(), floats.get(), count * sizeof(float));
    return array;
  }
};

Napi::Value program_run(const Napi::CallbackInfo& info) {
  BatchCopy batch(info[2]);
  const std::size_t width = get_size(info[3], "width");
  std::size_t count = 0;
  if (__builtin_mul_overflow(batch.get().output_count, width, &count) || count > PTRDIFF_MAX / sizeof(float)) {
    throw range_error(info.Env(), "width: must be that of the result, not " + std::to_string(width));
  }
  std::unique_ptr<float[]> floats(new (std::nothrow) float[count]);
  if (floats == nullptr) throw cria_error(info.Env(), "ERR_CRIA_MEMORY", "the system has no memory for the result");
  const auto cancel = info[4].IsUndefined() ? nullptr : get_handle<cria_cancel>(info[4], "cancel");
  return Work<ProgramRun>::start(info.Env(), {program_of(info), get_handle<cria_cache>(info[1], "cache"), cancel,
                                              std::move(batch), count, std::move(floats)});
}

struct ProgramDecode {
  std::shared_ptr<cria_program> program;
  std::shared_ptr<cria_cache> cache;
  std::shared_ptr<cria_cancel> cancel;
  BatchCopy batch;
  std::uint32_t candidates;
  std::vector<cria_sampling> sampling;
  std::size_t steps;
  std::vector<std::int32_t> tokens;

  cria_status run() {
    return cria_program_decode(program.get(), cache.get(), &batch.get(), candidates, sampling.data(), steps,
                               cancel.get(), tokens.data());
  }
  Napi::Value result(Napi::Env env) const {
    Napi::Int32Array array = Napi::Int32Array::New(env, tokens.size());
    std::copy(tokens.begin(), tokens.end(), array.Data());
    return array;
  }
};

// One for each sequence of the batch.
std::vector<cria_sampling> get_sampling(const Napi::CallbackInfo& info, std::size_t sequences) {
  if (!info[4].IsArray()) throw type_error(info.Env(), "sampling: must be an array");
  const Napi::Array array = info[4].As<Napi::Array>();
  if (array.Length() != sequences) {
    throw range_error(info.Env(), "sampling.length: must be " + std::to_string(sequences) + ", one for each sequence");
  }
  std::vector<cria_sampling> sampling;
  for (std::uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Object how = get_object(array.Get(i), "sampling");
    sampling.push_back({.struct_size = sizeof(cria_sampling),
                        .temperature = static_cast<float>(get_number(how.Get("temperature"), "sampling.temperature")),
                        .top_p = static_cast<float>(get_number(how.Get("topP"), "sampling.topP")),
                        .seed = get_size(how.Get("seed"), "sampling.seed")});
  }
  return sampling;
}

Napi::Value program_decode(const Napi::CallbackInfo& info) {
  BatchCopy batch(info[2]);
  const std::size_t sequences = batch.get().sequence_count;
  const std::int32_t candidates = get_int32(info[3], "candidates");
  std::vector<cria_sampling> sampling = get_sampling(info, sequences);
  const std::size_t steps = get_size(info[5], "steps");
  // Before there is room for the tokens: a number of steps that the block tables have none for may be any.
  if (steps > batch.get().block_count * CRIA_KV_BLOCK) {
    throw range_error(info.Env(), "steps: must be what the block tables have room for, not " + std::to_string(steps));
  }
  const auto cancel = info[6].IsUndefined() ? nullptr : get_handle<cria_cancel>(info[6], "cancel");
  return Work<ProgramDecode>::start(
      info.Env(), {program_of(info), get_handle<cria_cache>(info[1], "cache"), cancel, std::move(batch),
                   static_cast<std::uint32_t>(std::max(candidates, 0)), std::move(sampling), steps,
                   std::vector<std::int32_t>(sequences * steps)});
}

}  // namespace

void export_program(Napi::Env env, Napi::Object exports) {
  export_function<program_create>(env, exports, "programCreate");
  export_function<program_value>(env, exports, "programValue");
  export_function<program_embed>(env, exports, "programEmbed");
  export_function<program_rmsnorm>(env, exports, "programRmsnorm");
  export_function<program_matmul>(env, exports, "programMatmul");
  export_function<program_matmul_add>(env, exports, "programMatmulAdd");
  export_function<program_matmul_swiglu>(env, exports, "programMatmulSwiglu");
  export_function<program_rope>(env, exports, "programRope");
  export_function<program_attention>(env, exports, "programAttention");
  export_function<program_prefix_attention>(env, exports, "programPrefixAttention");
  export_function<program_swiglu>(env, exports, "programSwiglu");
  export_function<program_add>(env, exports, "programAdd");
  export_function<program_select>(env, exports, "programSelect");
  export_function<program_gather>(env, exports, "programGather");
  export_function<program_finish>(env, exports, "programFinish");
  export_function<program_run>(env, exports, "programRun");
  export_function<program_decode>(env, exports, "programDecode");
  export_function<cancel_create>(env, exports, "cancelCreate");
  export_function<cancel_trigger>(env, exports, "cancelTrigger");
}

}  // namespace cria::addon
