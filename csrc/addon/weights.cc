// Weights from one type to another.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "args.h"
#include "exports.h"
#include "work.h"

namespace cria::addon {
namespace {

// The rows of `cols` weights in an array of floats.
std::size_t rows_of(Napi::Env env, const Array<float>& array, std::size_t cols) {
  if (array.length % cols == 0) return array.length / cols;
  throw range_error(env, std::string(array.name) + ": its length must be a multiple of cols " + std::to_string(cols) +
                             ", not " + std::to_string(array.length));
}

Napi::Value weights_decode(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const cria_type type = get_named(info[0], "type", kWeightTypes);
  const std::size_t cols = get_size(info[1], "cols", 1);
  const auto data = get_array<std::uint8_t>(info[2], "data");
  const auto out = get_array<float>(info[3], "out");
  require_apart(env, out, data);
  check(env, cria_weights_decode(type, rows_of(env, out, cols), cols, data.data, data.length, out.data));
  return env.Undefined();
}

struct Encode {
  std::shared_ptr<cria_device> device;
  cria_type type;
  std::size_t cols;
  std::vector<float> x;
  Napi::Reference<Napi::Value> out;
  std::vector<std::uint8_t> bytes;

  cria_status run() {
    return cria_weights_encode(device.get(), type, x.size() / cols, cols, x.data(), bytes.data(), bytes.size());
  }
  // Only now: the array's memory was JavaScript's meanwhile, which may have detached or resized it.
  Napi::Value result(Napi::Env env) const {
    const auto array = get_array<std::uint8_t>(out.Value(), "out");
    require_length(env, "out", array.length, bytes.size());
    std::copy(bytes.begin(), bytes.end(), array.data);
    return env.Undefined();
  }
};

Napi::Value weights_encode(const Napi::CallbackInfo& info) {
  const auto device = get_handle<cria_device>(info[0], "device");
  const cria_type type = get_named(info[1], "type", kWeightTypes);
  const std::size_t cols = get_size(info[2], "cols", 1);
  const auto x = get_array<float>(info[3], "x");
  const auto out = get_array<std::uint8_t>(info[4], "out");
  rows_of(info.Env(), x, cols);
  return Work<Encode>::start(info.Env(),
                             {device, type, cols, std::vector<float>(x.data, x.data + x.length),
                              Napi::Reference<Napi::Value>::New(info[4], 1), std::vector<std::uint8_t>(out.length)});
}

Napi::Value tensor_convert(const Napi::CallbackInfo& info) {
  const auto tensor = get_handle<cria_tensor>(info[0], "tensor");
  const std::size_t row = get_size(info[1], "row"), rows = get_size(info[2], "rows");
  const cria_type from = get_named(info[3], "from", kWeightTypes);
  const auto data = get_array<std::uint8_t>(info[4], "data");
  check(info.Env(), cria_tensor_convert(tensor.get(), row, rows, from, data.data, data.length));
  return info.Env().Undefined();
}

struct ConvertFile {
  std::shared_ptr<cria_tensor> tensor;
  std::size_t row, rows;
  std::string path;
  std::uint64_t offset;
  cria_type from;

  cria_status run() const {
    cria_file* file = nullptr;
    const cria_status opened = cria_file_open(path.c_str(), &file);
    if (opened != CRIA_OK) return opened;
    const cria_status packed = cria_tensor_convert_file(tensor.get(), row, rows, file, offset, from);
    cria_file_free(file);
    return packed;
  }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value tensor_convert_file(const Napi::CallbackInfo& info) {
  return Work<ConvertFile>::start(
      info.Env(), {get_handle<cria_tensor>(info[0], "tensor"), get_size(info[1], "row"), get_size(info[2], "rows"),
                   get_string(info[3], "path"), get_size(info[4], "offset"), get_named(info[5], "from", kWeightTypes)});
}

}  // namespace

void export_weights(Napi::Env env, Napi::Object exports) {
  export_function<weights_decode>(env, exports, "weightsDecode");
  export_function<weights_encode>(env, exports, "weightsEncode");
  export_function<tensor_convert>(env, exports, "tensorConvert");
  export_function<tensor_convert_file>(env, exports, "tensorConvertFile");
}

}  // namespace cria::addon
