#include "args.h"
#include "exports.h"
#include "work.h"

namespace cria::addon {
namespace {

Napi::Value matrix_create(const Napi::CallbackInfo& info) {
  cria_tensor* tensor = nullptr;
  check(info.Env(),
        cria_matrix_create(get_handle<cria_device>(info[0], "device").get(), get_named(info[1], "type", kWeightTypes),
                           get_size(info[2], "rows"), get_size(info[3], "cols"), &tensor));
  return make_handle(info.Env(), tensor, cria_tensor_bytes(tensor));
}

Napi::Value file_open(const Napi::CallbackInfo& info) {
  cria_file* file = nullptr;
  check(info.Env(), cria_file_open(get_string(info[0], "path").c_str(), &file));
  return make_handle(info.Env(), file);
}

// A matrix out of a file that holds it packed, by cria_matrix_map or cria_matrix_read.
template <auto kLoad>
struct LoadMatrix {
  std::shared_ptr<cria_device> device;
  cria_type type;
  std::size_t rows, cols;
  std::shared_ptr<cria_file> file;
  std::uint64_t offset;
  std::shared_ptr<cria_tensor> tensor;

  cria_status run() {
    cria_tensor* loaded = nullptr;
    const cria_status status = kLoad(device.get(), type, rows, cols, file.get(), offset, &loaded);
    tensor = own_handle(loaded);
    return status;
  }
  // Of what is mapped the garbage collector is told nothing: a file's pages are the system's to take back, and a handle
  // freed early would gain none. (Told of them, it collected once for each 64 MiB, and loading took three times as
  // long.)
  Napi::Value result(Napi::Env env) const {
    return make_handle(env, tensor, kLoad == cria_matrix_map ? 0 : cria_tensor_bytes(tensor.get()));
  }
};

template <auto kLoad>
Napi::Value load_matrix(const Napi::CallbackInfo& info) {
  return Work<LoadMatrix<kLoad>>::start(
      info.Env(),
      {get_handle<cria_device>(info[0], "device"), get_named(info[1], "type", kWeightTypes), get_size(info[2], "rows"),
       get_size(info[3], "cols"), get_handle<cria_file>(info[4], "file"), get_size(info[5], "offset"), nullptr});
}

Napi::Value matrix_layout(const Napi::CallbackInfo& info) {
  std::uint32_t version = 0;
  check(info.Env(), cria_matrix_layout(get_named(info[0], "kind", kDeviceKinds), &version));
  return Napi::Number::New(info.Env(), version);
}

Napi::Value matrix_bytes(const Napi::CallbackInfo& info) {
  std::size_t bytes = 0;
  check(info.Env(),
        cria_matrix_bytes(get_named(info[0], "kind", kDeviceKinds), get_named(info[1], "type", kWeightTypes),
                          get_size(info[2], "rows"), get_size(info[3], "cols"), &bytes));
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value vector_create(const Napi::CallbackInfo& info) {
  cria_tensor* tensor = nullptr;
  check(info.Env(), cria_vector_create(get_handle<cria_device>(info[0], "device").get(),
                                       get_named(info[1], "type", kWeightTypes), get_size(info[2], "size"), &tensor));
  return make_handle(info.Env(), tensor, cria_tensor_bytes(tensor));
}

Napi::Value tensor_pack(const Napi::CallbackInfo& info) {
  const auto data = get_array<std::uint8_t>(info[3], "data");
  check(info.Env(), cria_tensor_pack(get_handle<cria_tensor>(info[0], "tensor").get(), get_size(info[1], "row"),
                                     get_size(info[2], "rows"), data.data, data.length));
  return info.Env().Undefined();
}

struct PackFile {
  std::shared_ptr<cria_tensor> tensor;
  std::size_t row, rows;
  std::string path;
  std::uint64_t offset;

  cria_status run() const {
    cria_file* file = nullptr;
    const cria_status opened = cria_file_open(path.c_str(), &file);
    if (opened != CRIA_OK) return opened;
    const cria_status packed = cria_tensor_pack_file(tensor.get(), row, rows, file, offset);
    cria_file_free(file);
    return packed;
  }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value tensor_pack_file(const Napi::CallbackInfo& info) {
  return Work<PackFile>::start(
      info.Env(), {get_handle<cria_tensor>(info[0], "tensor"), get_size(info[1], "row"), get_size(info[2], "rows"),
                   get_string(info[3], "path"), get_size(info[4], "offset")});
}

// A matrix of GPTQ's or AWQ's, of arrays that it keeps copies of.
struct PackInt4 {
  std::shared_ptr<cria_tensor> tensor;
  std::size_t row;
  cria_int4 matrix;
  std::vector<std::int32_t> weights, zeros, columns, column_groups;
  std::vector<std::uint16_t> scales;

  cria_status run() {
    matrix.weights = weights.data();
    matrix.zeros = zeros.data();
    matrix.scales = scales.data();
    matrix.columns = columns.data();
    matrix.column_groups = column_groups.data();
    return cria_tensor_pack_int4(tensor.get(), row, &matrix);
  }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value tensor_pack_int4(const Napi::CallbackInfo& info) {
  const Napi::Object object = get_object(info[2], "matrix");
  const auto size = [&](const char* key, const char* name) {
    const std::size_t n = get_size(object.Get(key), name, 1);
    if (n > INT32_MAX) throw range_error(info.Env(), std::string(name) + ": must be below 2^31");
    return n;
  };
  PackInt4 job{.tensor = get_handle<cria_tensor>(info[0], "tensor"), .row = get_size(info[1], "row"), .matrix = {}};
  job.matrix = {.struct_size = sizeof(cria_int4),
                .layout = get_named(object.Get("layout"), "matrix.layout", kInt4Layouts),
                .zero_offset = get_boolean(object.Get("zerosLessOne"), "matrix.zerosLessOne"),
                .inputs = size("inputs", "matrix.inputs"),
                .outputs = size("outputs", "matrix.outputs"),
                .groups = size("groups", "matrix.groups")};
  job.weights = copy_int32s(object.Get("weights"), "matrix.weights");
  job.zeros = copy_int32s(object.Get("zeros"), "matrix.zeros");
  job.columns = copy_int32s(object.Get("columns"), "matrix.columns");
  job.column_groups = copy_int32s(object.Get("columnGroups"), "matrix.columnGroups");
  const auto scales = get_array<std::uint16_t>(object.Get("scales"), "matrix.scales");
  job.scales.assign(scales.data, scales.data + scales.length);

  const std::size_t inputs = job.matrix.inputs, outputs = job.matrix.outputs, groups = job.matrix.groups;
  const std::size_t words = job.matrix.layout == CRIA_INT4_AWQ ? inputs * (outputs / 8) : inputs / 8 * outputs;
  const std::size_t cols = cria_tensor_cols(job.tensor.get());
  require_length(info.Env(), "matrix.weights", job.weights.size(), words);
  require_length(info.Env(), "matrix.zeros", job.zeros.size(), groups * (outputs / 8));
  require_length(info.Env(), "matrix.scales", job.scales.size(), groups * outputs);
  require_length(info.Env(), "matrix.columns", job.columns.size(), cols);
  require_length(info.Env(), "matrix.columnGroups", job.column_groups.size(), cols / 32);
  return Work<PackInt4>::start(info.Env(), std::move(job));
}

Napi::Value tensor_unpack(const Napi::CallbackInfo& info) {
  const auto data = get_array<std::uint8_t>(info[3], "data");
  check(info.Env(), cria_tensor_unpack(get_handle<cria_tensor>(info[0], "tensor").get(), get_size(info[1], "row"),
                                       get_size(info[2], "rows"), data.data, data.length));
  return info.Env().Undefined();
}

Napi::Value tensor_read_packed(const Napi::CallbackInfo& info) {
  const auto data = get_array<std::uint8_t>(info[2], "data");
  check(info.Env(), cria_tensor_read_packed(get_handle<cria_tensor>(info[0], "tensor").get(),
                                            get_size(info[1], "offset"), data.data, data.length));
  return info.Env().Undefined();
}

struct FillRandom {
  std::shared_ptr<cria_tensor> tensor;
  std::uint64_t seed;
  float deviation;

  cria_status run() const { return cria_tensor_fill_random(tensor.get(), seed, deviation); }
  Napi::Value result(Napi::Env env) const { return env.Undefined(); }
};

Napi::Value tensor_fill_random(const Napi::CallbackInfo& info) {
  return Work<FillRandom>::start(info.Env(), {get_handle<cria_tensor>(info[0], "tensor"), get_size(info[1], "seed"),
                                              static_cast<float>(get_number(info[2], "deviation"))});
}

template <std::size_t (*kMeasure)(const cria_tensor*)>
Napi::Value tensor_size(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(kMeasure(get_handle<cria_tensor>(info[0], "tensor").get())));
}

}  // namespace

void export_tensor(Napi::Env env, Napi::Object exports) {
  export_function<matrix_create>(env, exports, "matrixCreate");
  export_function<file_open>(env, exports, "fileOpen");
  export_function<load_matrix<cria_matrix_map>>(env, exports, "matrixMap");
  export_function<load_matrix<cria_matrix_read>>(env, exports, "matrixRead");
  export_function<matrix_layout>(env, exports, "matrixLayout");
  export_function<matrix_bytes>(env, exports, "matrixBytes");
  export_function<vector_create>(env, exports, "vectorCreate");
  export_function<tensor_pack>(env, exports, "tensorPack");
  export_function<tensor_pack_file>(env, exports, "tensorPackFile");
  export_function<tensor_pack_int4>(env, exports, "tensorPackInt4");
  export_function<tensor_unpack>(env, exports, "tensorUnpack");
  export_function<tensor_read_packed>(env, exports, "tensorReadPacked");
  export_function<tensor_fill_random>(env, exports, "tensorFillRandom");
  export_function<tensor_size<cria_tensor_rows>>(env, exports, "tensorRows");
  export_function<tensor_size<cria_tensor_cols>>(env, exports, "tensorCols");
  export_function<tensor_size<cria_tensor_bytes>>(env, exports, "tensorBytes");
}

}  // namespace cria::addon
