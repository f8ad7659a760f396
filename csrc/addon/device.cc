#include "args.h"
#include "exports.h"
#include "work.h"

namespace cria::addon {
namespace {

void set_cpu(Napi::Env env, Napi::Object object, const cria_device_info& info) {
  Napi::Array isas = Napi::Array::New(env);
  for (const Named& isa : kIsas) {
    if (info.isas >> isa.value & 1) isas.Set(isas.Length(), isa.name);
  }
  object.Set("isa", name_of(info.isa, kIsas));
  object.Set("isas", isas);
  object.Set("threads", info.threads);
}

// A DeviceInfo, or an AbsentDevice.
Napi::Object to_object(Napi::Env env, const cria_device_info& info) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("available", Napi::Boolean::New(env, info.available != 0));
  object.Set("kind", name_of(info.kind, kDeviceKinds));
  if (!info.available) {
    object.Set("code", "ERR_CRIA_UNSUPPORTED");
    object.Set("reason", info.reason);
    return object;
  }
  object.Set("name", info.name);
  if (info.kind == CRIA_DEVICE_CPU) set_cpu(env, object, info);
  object.Set("memoryBytes", static_cast<double>(info.memory_bytes));
  object.Set("availableBytes", static_cast<double>(info.available_bytes));
  return object;
}

Napi::Value device_describe(const Napi::CallbackInfo& info) {
  cria_device_info described{.struct_size = sizeof(cria_device_info)};
  check(info.Env(), cria_device_describe(get_named(info[0], "kind", kDeviceKinds), &described));
  return to_object(info.Env(), described);
}

Napi::Value device_open(const Napi::CallbackInfo& info) {
  const std::size_t threads = get_size(info[2], "threads");
  const cria_device_options options{.struct_size = sizeof(cria_device_options),
                                    .kind = get_named(info[0], "kind", kDeviceKinds),
                                    .isa = info[1].IsUndefined() ? CRIA_ISA_AUTO : get_named(info[1], "isa", kIsas),
                                    .threads = threads > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(threads)};
  cria_device* device = nullptr;
  check(info.Env(), cria_device_open(&options, &device));
  return make_handle(info.Env(), device);
}

Napi::Value device_info(const Napi::CallbackInfo& info) {
  cria_device_info described{.struct_size = sizeof(cria_device_info)};
  check(info.Env(), cria_device_get_info(get_handle<cria_device>(info[0], "device").get(), &described));
  return to_object(info.Env(), described);
}

struct LimitMeasurement {
  std::shared_ptr<cria_device> device;
  cria_limit limit;
  std::vector<double> rates;

  cria_status run() {
    return cria_measure_limit(device.get(), limit, static_cast<std::uint32_t>(rates.size()), rates.data());
  }
  Napi::Value result(Napi::Env env) const {
    Napi::Float64Array array = Napi::Float64Array::New(env, rates.size());
    std::copy(rates.begin(), rates.end(), array.Data());
    return array;
  }
};

Napi::Value measure_limit(const Napi::CallbackInfo& info) {
  const auto device = get_handle<cria_device>(info[0], "device");
  const cria_limit limit = get_named(info[1], "limit", kLimits);
  const std::size_t samples = get_size(info[2], "samples");
  if (samples > 1 << 20) throw range_error(info.Env(), "samples: must be at most 2^20");
  return Work<LimitMeasurement>::start(info.Env(), {device, limit, std::vector<double>(samples)});
}

}  // namespace

void export_device(Napi::Env env, Napi::Object exports) {
  export_function<device_describe>(env, exports, "deviceDescribe");
  export_function<device_open>(env, exports, "deviceOpen");
  export_function<device_info>(env, exports, "deviceInfo");
  export_function<measure_limit>(env, exports, "measureLimit");
}

}  // namespace cria::addon
