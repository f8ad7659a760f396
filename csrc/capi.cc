// cria.h over the core: checks every argument, and turns exceptions into status codes.
#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>

#include "core/abi.h"
#include "core/backend.h"
#include "core/checked.h"
#include "core/decode.h"
#include "core/error.h"
#include "core/file.h"
#include "core/int4.h"
#include "core/text.h"
#include "core/weights.h"
#include "cpu/backend.h"
#include "cpu/encode.h"
#include "cpu/machine.h"
#include "cpu/panel.h"
#include "cria.h"
#include "cuda/library.h"
#include "cuda/pack.h"

struct cria_device {
  std::shared_ptr<cria::Backend> backend;
};
struct cria_file {
  cria::File file;
};
struct cria_tensor {
  std::shared_ptr<cria::Backend> backend;
  std::shared_ptr<cria::Tensor> tensor;
};
struct cria_cache {
  std::shared_ptr<cria::Backend> backend;
  std::shared_ptr<cria::Cache> cache;
};
struct cria_program {
  std::shared_ptr<cria::Backend> backend;
  cria::Program program;
};
struct cria_cancel {
  cria::Cancel triggered{false};
};

namespace {

using cria::Error;
using cria::read_struct;
using cria::require;
using cria::require_pointer;

// A buffer with room for a path, of 4,096 bytes on Linux at most, and what is said of it. A string would take memory,
// which may be what was missing, and so would registering its destructor: where that fails glibc ends the process. (So
// it does where a thread's first failure finds none for the buffer itself, in a library that was loaded by dlopen.)
thread_local char last_error[4096 + 512];

cria_status failed(cria_status status, const char* sentence) noexcept {
  cria::put_text(last_error, sentence);
  return status;
}

// Runs `body`; whatever it throws becomes a status, and its sentence the thread's last error.
template <class Body>
cria_status guarded(const Body& body) noexcept {
  try {
    body();
    return CRIA_OK;
  } catch (const Error& error) {
    return failed(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(CRIA_ERROR_MEMORY, "the system has no memory to give");
  } catch (const std::exception& error) {
    return failed(CRIA_ERROR_INTERNAL, error.what());
  }
}

const cria::Tensor& matrix_of(const cria_tensor* tensor, const char* name) {
  require_pointer(tensor, name);
  cria::require_layout(*tensor->tensor, cria::Layout::kMatrix, name);
  return *tensor->tensor;
}

void check_matrix(cria_type type, std::size_t rows, std::size_t cols) {
  require(rows > 0 && rows <= INT32_MAX, "rows", "from 1 to 2^31 - 1", rows);
  require(cols > 0 && cols <= INT32_MAX, "cols", "from 1 to 2^31 - 1", cols);
  cria::row_bytes(type, cols);  // throws where type and cols do not fit
}

// A matrix out of a file that holds it packed.
template <auto kLoad>
cria_status load_matrix(cria_device* device, cria_type type, std::size_t rows, std::size_t cols, cria_file* file,
                        std::uint64_t offset, cria_tensor** tensor) {
  return guarded([&] {
    require_pointer(device, "device");
    require_pointer(file, "file");
    require_pointer(tensor, "tensor");
    check_matrix(type, rows, cols);
    *tensor = new cria_tensor{device->backend, (device->backend.get()->*kLoad)(type, rows, cols, file->file, offset)};
  });
}

// What stands in a file is nobody's to write.
void require_writable(const cria_tensor* tensor) {
  require_pointer(tensor, "tensor");
  if (tensor->tensor->mapped())
    throw Error(CRIA_ERROR_ARGUMENT, "tensor: must not be mapped from a file, to be written");
}

void require_kind(cria_device_kind kind) {
  require(kind >= 0 && kind < CRIA_DEVICE_KINDS, "kind", "one of cria_device_kind", kind);
}

void check_rows(const cria_tensor* tensor, std::size_t row, std::size_t rows) {
  require_pointer(tensor, "tensor");
  const std::size_t all = tensor->tensor->rows;
  require(row <= all, "row", "at most the tensor's " + std::to_string(all), row);
  require(rows <= all - row, "rows", "at most the " + std::to_string(all - row) + " from row on", rows);
}

// Arrays of `count` elements: null only where there are none.
void require_array(const void* data, std::size_t count, const char* name) {
  if (count > 0) require_pointer(data, name);
}

std::size_t bytes_of(const cria_tensor* tensor, std::size_t rows, cria_type type) {
  return cria::checked_product({rows, cria::row_bytes(type, tensor->tensor->cols)});
}

std::size_t bytes_of(const cria_tensor* tensor, std::size_t rows) {
  return bytes_of(tensor, rows, tensor->tensor->type);
}

// Weights of no tensor: `data` is as they stand in a file.
void check_weights(cria_type type, std::size_t rows, std::size_t cols, const void* data, std::size_t bytes,
                   const char* data_name, const float* floats, const char* floats_name) {
  require(rows <= INT32_MAX, "rows", "below 2^31", rows);
  require(cols > 0 && cols <= INT32_MAX, "cols", "from 1 to 2^31 - 1", cols);
  const std::size_t expected = cria::checked_product({rows, cria::row_bytes(type, cols)});
  require(bytes == expected, "bytes", std::to_string(expected) + " for that many rows", bytes);
  cria::checked_product({rows, cols, sizeof(float)});
  require_array(data, rows, data_name);
  require_array(floats, rows, floats_name);
}

void check_cache_type(cria_type type, const std::string& name) {
  require(type == CRIA_TYPE_F32 || type == CRIA_TYPE_F16 || type == CRIA_TYPE_Q8_0, name.c_str(),
          "CRIA_TYPE_F32, CRIA_TYPE_F16 or CRIA_TYPE_Q8_0", type);
}

// A cria_cache_options or a cria_kv_layer.
void check_cache(const auto& cache, const std::string& name) {
  check_cache_type(cache.key_type, name + ".key_type");
  check_cache_type(cache.value_type, name + ".value_type");
  require(cache.kv_heads > 0 && cache.kv_heads <= INT32_MAX, (name + ".kv_heads").c_str(), "from 1 to 2^31 - 1",
          cache.kv_heads);
  require(cache.head_dim > 0 && cache.head_dim % 8 == 0 && cache.head_dim <= 256, (name + ".head_dim").c_str(),
          "a multiple of 8, at most 256", cache.head_dim);
}

cria::CacheShape shape_of(const cria_cache_options& options) {
  check_cache(options, "options");
  require(options.layers > 0 && options.layers <= INT32_MAX, "options.layers", "from 1 to 2^31 - 1", options.layers);
  return {options.key_type, options.value_type, options.layers, options.kv_heads, options.head_dim};
}

cria_kv_layer checked_layer(const cria_kv_layer* cache) {
  const cria_kv_layer layer = read_struct(cache, "cache");
  check_cache(layer, "cache");
  require(layer.blocks <= INT32_MAX, "cache.blocks", "below 2^31", layer.blocks);
  if (layer.blocks > 0) {
    require_pointer(layer.k, "cache.k");
    require_pointer(layer.v, "cache.v");
  }
  return layer;
}

void check_block_bytes(const cria::Cache& cache, std::size_t count, const void* data, std::size_t bytes) {
  const std::size_t expected = cria::checked_product({count, cache.block_bytes()});
  require(bytes == expected, "bytes", std::to_string(expected) + " for that many blocks", bytes);
  require_array(data, count, "data");
}

cria_program* recording(cria_program* program) {
  require_pointer(program, "program");
  return program;
}

// Weights and caches are in the layout, and in the memory, of one kind of device. `owner` is a device or what is its.
void require_on(const auto* owner, const auto* operand, const char* name) {
  require_pointer(operand, name);
  if (operand->backend->kind() == owner->backend->kind()) return;
  throw Error(CRIA_ERROR_ARGUMENT, std::string(name) + ": must be of the same kind of device");
}

// The program, finished and recorded for such a cache.
const cria::Program& runnable(const cria_program* program, const cria_cache* cache) {
  require_pointer(program, "program");
  require_on(program, cache, "cache");
  // A GPU's devices have a stream each: what one writes the other may read too soon.
  if (cache->backend->kind() != CRIA_DEVICE_CPU && cache->backend != program->backend) {
    throw Error(CRIA_ERROR_ARGUMENT, "cache: must be of the program's device");
  }
  const cria::Program& recorded = program->program;
  if (!recorded.finished()) throw Error(CRIA_ERROR_ARGUMENT, "program: must be finished");
  if (cache->cache->shape != recorded.cache()) {
    throw Error(CRIA_ERROR_ARGUMENT, "cache: must have the shape that the program was recorded for");
  }
  return recorded;
}

}  // namespace

uint32_t cria_abi_version(void) { return CRIA_ABI_VERSION; }
const char* cria_last_error(void) { return last_error; }

// Devices

cria_status cria_device_describe(cria_device_kind kind, cria_device_info* info) {
  return guarded([&] {
    require_kind(kind);
    cria::require_struct(info, "info");
    cria::write_struct(kind == CRIA_DEVICE_CPU ? cria::cpu::describe() : cria::cuda::describe(kind), info);
  });
}

cria_status cria_device_open(const cria_device_options* options, cria_device** device) {
  return guarded([&] {
    const cria_device_options asked = read_struct(options, "options");
    require_pointer(device, "device");
    *device = new cria_device{cria::open_backend(asked)};
  });
}

cria_status cria_device_get_info(const cria_device* device, cria_device_info* info) {
  return guarded([&] {
    require_pointer(device, "device");
    cria::require_struct(info, "info");
    cria::write_struct(device->backend->info(), info);
  });
}

void cria_device_free(cria_device* device) { delete device; }

cria_status cria_measure_limit(cria_device* device, cria_limit limit, uint32_t samples, double* rates) {
  return guarded([&] {
    require_pointer(device, "device");
    require(limit >= 0 && limit < CRIA_LIMITS, "limit", "a cria_limit", limit);
    require(samples <= 1 << 20, "samples", "at most 2^20", samples);
    require_array(rates, samples, "rates");
    device->backend->measure_limit(limit, {rates, samples});
  });
}

// Tensors

cria_status cria_file_open(const char* path, cria_file** file) {
  return guarded([&] {
    require_pointer(path, "path");
    require_pointer(file, "file");
    *file = new cria_file{cria::File(path)};
  });
}

void cria_file_free(cria_file* file) { delete file; }

cria_status cria_matrix_create(cria_device* device, cria_type type, size_t rows, size_t cols, cria_tensor** tensor) {
  return guarded([&] {
    require_pointer(device, "device");
    require_pointer(tensor, "tensor");
    check_matrix(type, rows, cols);
    *tensor = new cria_tensor{device->backend, device->backend->matrix(type, rows, cols)};
  });
}

cria_status cria_matrix_map(cria_device* device, cria_type type, size_t rows, size_t cols, cria_file* file,
                            uint64_t offset, cria_tensor** tensor) {
  return load_matrix<&cria::Backend::map_matrix>(device, type, rows, cols, file, offset, tensor);
}

cria_status cria_matrix_read(cria_device* device, cria_type type, size_t rows, size_t cols, cria_file* file,
                             uint64_t offset, cria_tensor** tensor) {
  return load_matrix<&cria::Backend::read_matrix>(device, type, rows, cols, file, offset, tensor);
}

cria_status cria_matrix_layout(cria_device_kind kind, uint32_t* version) {
  return guarded([&] {
    require_kind(kind);
    require_pointer(version, "version");
    if (kind != CRIA_DEVICE_CPU) throw Error(CRIA_ERROR_UNSUPPORTED, "kind: must be the CPU, whose layout files hold");
    *version = cria::cpu::kPanelLayout;
  });
}

cria_status cria_matrix_bytes(cria_device_kind kind, cria_type type, size_t rows, size_t cols, size_t* bytes) {
  return guarded([&] {
    require_kind(kind);
    require_pointer(bytes, "bytes");
    check_matrix(type, rows, cols);
    if (kind == CRIA_DEVICE_CPU) {
      *bytes = cria::cpu::packed_bytes(type, rows, cols);
      return;
    }
    cria::cuda::require_layout(type);
    *bytes = cria::cuda::quants_bytes(type, rows, cols) + cria::cuda::scales_bytes(type, rows, cols);
  });
}

cria_status cria_vector_create(cria_device* device, cria_type type, size_t size, cria_tensor** tensor) {
  return guarded([&] {
    require_pointer(device, "device");
    require_pointer(tensor, "tensor");
    require(size > 0 && size <= INT32_MAX, "size", "from 1 to 2^31 - 1", size);
    cria::row_bytes(type, size);
    require(!cria::is_quantised(type), "type", "f32, f16 or bf16 for a vector", type);
    *tensor = new cria_tensor{device->backend, device->backend->vector(type, size)};
  });
}

cria_status cria_tensor_pack(cria_tensor* tensor, size_t row, size_t rows, const void* data, size_t bytes) {
  return guarded([&] {
    check_rows(tensor, row, rows);
    require_writable(tensor);
    require_array(data, rows, "data");
    const std::size_t expected = bytes_of(tensor, rows);
    require(bytes == expected, "bytes", std::to_string(expected) + " for that many rows", bytes);
    if (rows > 0) tensor->tensor->pack(row, rows, static_cast<const std::uint8_t*>(data));
  });
}

cria_status cria_tensor_pack_file(cria_tensor* tensor, size_t row, size_t rows, cria_file* file, uint64_t offset) {
  return guarded([&] {
    check_rows(tensor, row, rows);
    require_writable(tensor);
    require_pointer(file, "file");
    const std::uint64_t limit = INT64_MAX - bytes_of(tensor, rows);
    require(offset <= limit, "offset", "an offset in a file", offset);
    if (rows > 0) tensor->tensor->pack_file(row, rows, file->file, offset);
  });
}

cria_status cria_tensor_pack_int4(cria_tensor* tensor, size_t row, const cria_int4* matrix) {
  return guarded([&] {
    const cria_int4 read = read_struct(matrix, "matrix");
    check_rows(tensor, row, read.outputs);
    require_writable(tensor);
    cria::check_int4(read, *tensor->tensor);
    tensor->tensor->pack_int4(row, read);
  });
}

cria_status cria_tensor_unpack(const cria_tensor* tensor, size_t row, size_t rows, void* data, size_t bytes) {
  return guarded([&] {
    check_rows(tensor, row, rows);
    require_array(data, rows, "data");
    const cria::Tensor& t = *tensor->tensor;
    const std::size_t expected =
        t.layout == cria::Layout::kVector ? rows * t.cols * sizeof(float) : bytes_of(tensor, rows);
    require(bytes == expected, "bytes", std::to_string(expected) + " for that many rows", bytes);
    if (rows > 0) t.unpack(row, rows, static_cast<std::uint8_t*>(data));
  });
}

cria_status cria_tensor_read_packed(const cria_tensor* tensor, size_t offset, void* data, size_t bytes) {
  return guarded([&] {
    require_pointer(tensor, "tensor");
    const std::size_t all = tensor->tensor->bytes();
    require(offset <= all, "offset", "at most the tensor's " + std::to_string(all) + " bytes", offset);
    require(bytes <= all - offset, "bytes", "at most the " + std::to_string(all - offset) + " from offset on", bytes);
    require_array(data, bytes, "data");
    if (bytes > 0) tensor->tensor->read_packed(offset, bytes, static_cast<std::uint8_t*>(data));
  });
}

cria_status cria_tensor_fill_random(cria_tensor* tensor, uint64_t seed, float deviation) {
  return guarded([&] {
    require_writable(tensor);
    require(std::isfinite(deviation) && deviation >= 0, "deviation", "at least 0", deviation);
    tensor->tensor->fill_random(seed, deviation);
  });
}

size_t cria_tensor_rows(const cria_tensor* tensor) { return tensor == nullptr ? 0 : tensor->tensor->rows; }
size_t cria_tensor_cols(const cria_tensor* tensor) { return tensor == nullptr ? 0 : tensor->tensor->cols; }
size_t cria_tensor_bytes(const cria_tensor* tensor) { return tensor == nullptr ? 0 : tensor->tensor->bytes(); }
void cria_tensor_free(cria_tensor* tensor) { delete tensor; }

// Weight types

cria_status cria_weights_decode(cria_type type, size_t rows, size_t cols, const void* data, size_t bytes, float* out) {
  return guarded([&] {
    check_weights(type, rows, cols, data, bytes, "data", out, "out");
    const auto* source = static_cast<const std::uint8_t*>(data);
    const std::size_t row_bytes = cria::row_bytes(type, cols);
    for (std::size_t i = 0; i < rows; ++i) cria::decode_row(type, cols, source + i * row_bytes, out + i * cols);
  });
}

cria_status cria_weights_encode(cria_device* device, cria_type type, size_t rows, size_t cols, const float* x,
                                void* out, size_t bytes) {
  return guarded([&] {
    require_pointer(device, "device");
    check_weights(type, rows, cols, out, bytes, "out", x, "x");
    const std::uint32_t own = device->backend->info().threads;  // 0 of a GPU
    const unsigned threads = own == 0 ? cria::cpu::default_threads() : own;
    if (rows > 0) cria::cpu::encode_rows(type, rows, cols, x, static_cast<std::uint8_t*>(out), threads);
  });
}

cria_status cria_tensor_convert(cria_tensor* tensor, size_t row, size_t rows, cria_type from, const void* data,
                                size_t bytes) {
  return guarded([&] {
    check_rows(tensor, row, rows);
    require_writable(tensor);
    require_array(data, rows, "data");
    const std::size_t expected = bytes_of(tensor, rows, from);
    require(bytes == expected, "bytes", std::to_string(expected) + " for that many rows", bytes);
    if (rows > 0) tensor->tensor->convert(row, rows, from, static_cast<const std::uint8_t*>(data));
  });
}

cria_status cria_tensor_convert_file(cria_tensor* tensor, size_t row, size_t rows, cria_file* file, uint64_t offset,
                                     cria_type from) {
  return guarded([&] {
    check_rows(tensor, row, rows);
    require_writable(tensor);
    require_pointer(file, "file");
    const std::uint64_t limit = INT64_MAX - bytes_of(tensor, rows, from);
    require(offset <= limit, "offset", "an offset in a file", offset);
    if (rows > 0) tensor->tensor->convert_file(row, rows, file->file, offset, from);
  });
}

// The KV cache

cria_status cria_cache_create(cria_device* device, const cria_cache_options* options, cria_cache** cache) {
  return guarded([&] {
    require_pointer(device, "device");
    require_pointer(cache, "cache");
    const cria_cache_options asked = read_struct(options, "options");
    const cria::CacheShape shape = shape_of(asked);
    require(asked.blocks > 0 && asked.blocks <= INT32_MAX, "options.blocks", "from 1 to 2^31 - 1", asked.blocks);
    *cache = new cria_cache{device->backend, device->backend->cache(shape, asked.blocks)};
  });
}

size_t cria_cache_bytes(const cria_cache* cache) { return cache == nullptr ? 0 : cache->cache->bytes(); }
void cria_cache_free(cria_cache* cache) { delete cache; }
size_t cria_cache_block_bytes(const cria_cache* cache) { return cache == nullptr ? 0 : cache->cache->block_bytes(); }

cria_status cria_cache_read(cria_cache* cache, size_t count, const int32_t* blocks, void* data, size_t bytes) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const auto checked = cria::check_blocks(*cache->cache, count, blocks, false);
    check_block_bytes(*cache->cache, count, data, bytes);
    cache->backend->read_blocks(*cache->cache, checked, static_cast<std::uint8_t*>(data));
  });
}

cria_status cria_cache_write(cria_cache* cache, size_t count, const int32_t* blocks, const void* data, size_t bytes) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const auto checked = cria::check_blocks(*cache->cache, count, blocks, true);
    check_block_bytes(*cache->cache, count, data, bytes);
    cache->backend->write_blocks(*cache->cache, checked, static_cast<const std::uint8_t*>(data));
  });
}

cria_status cria_cache_move(cria_cache* cache, size_t count, const int32_t* from, const int32_t* to, int32_t shift,
                            const cria_rope_options* rope) {
  return guarded([&] {
    require_pointer(cache, "cache");
    const cria_rope_options turned = shift == 0 ? cria_rope_options{} : read_struct(rope, "rope");
    cache->backend->move_slots(*cache->cache, cria::check_move(*cache->cache, count, from, to, shift, &turned));
  });
}

// Programs

cria_status cria_program_create(cria_device* device, const cria_cache_options* cache, cria_program** program) {
  return guarded([&] {
    require_pointer(device, "device");
    require_pointer(program, "program");
    *program = new cria_program{device->backend, cria::Program(shape_of(read_struct(cache, "options")))};
  });
}

void cria_program_free(cria_program* program) { delete program; }

cria_status cria_program_value(cria_program* program, cria_rows rows, size_t width, cria_value* value) {
  return guarded([&] {
    require_pointer(value, "value");
    *value = recording(program)->program.value(rows, width);
  });
}

cria_status cria_program_embed(cria_program* program, const cria_tensor* table, cria_value out) {
  return guarded([&] {
    require_on(recording(program), table, "table");
    program->program.embed(table->tensor, out);
  });
}

cria_status cria_program_rmsnorm(cria_program* program, cria_value x, const cria_tensor* weight, float eps,
                                 cria_value out) {
  return guarded([&] {
    require_on(recording(program), weight, "weight");
    program->program.rmsnorm(x, weight->tensor, eps, out);
  });
}

cria_status cria_program_matmul(cria_program* program, cria_value x, const cria_tensor* weight, cria_value out,
                                size_t column) {
  return guarded([&] {
    require_on(recording(program), weight, "weight");
    program->program.matmul(x, weight->tensor, out, column);
  });
}

cria_status cria_program_matmul_add(cria_program* program, cria_value x, const cria_tensor* weight, cria_value out) {
  return guarded([&] {
    require_on(recording(program), weight, "weight");
    program->program.matmul_add(x, weight->tensor, out);
  });
}

cria_status cria_program_matmul_swiglu(cria_program* program, cria_value x, const cria_tensor* weight, cria_value out) {
  return guarded([&] {
    require_on(recording(program), weight, "weight");
    program->program.matmul_swiglu(x, weight->tensor, out);
  });
}

cria_status cria_program_rope(cria_program* program, cria_value qkv, size_t layer, const cria_rope_options* options) {
  return guarded([&] {
    const cria_rope_options how = read_struct(options, "options");
    recording(program)->program.rope(qkv, layer, how);
  });
}

cria_status cria_program_attention(cria_program* program, cria_value qkv, size_t layer, size_t heads, cria_value out) {
  return guarded([&] { recording(program)->program.attention(qkv, layer, heads, out); });
}

cria_status cria_program_prefix_attention(cria_program* program, cria_value qkv, const cria_tensor* keys,
                                          const cria_tensor* values, const cria_tensor* gates, cria_value out) {
  return guarded([&] {
    require_on(recording(program), keys, "keys");
    require_on(recording(program), values, "values");
    require_on(recording(program), gates, "gates");
    program->program.prefix_attention(qkv, keys->tensor, values->tensor, gates->tensor, out);
  });
}

cria_status cria_program_swiglu(cria_program* program, cria_value gate_up, cria_value out) {
  return guarded([&] { recording(program)->program.swiglu(gate_up, out); });
}

cria_status cria_program_add(cria_program* program, cria_value x, cria_value y, cria_value out) {
  return guarded([&] { recording(program)->program.add(x, y, out); });
}

cria_status cria_program_select(cria_program* program, cria_value x, cria_value out) {
  return guarded([&] { recording(program)->program.select(x, out); });
}

cria_status cria_program_gather(cria_program* program, cria_value x, const int32_t* columns, size_t count,
                                cria_value out) {
  return guarded([&] {
    require_array(columns, count, "columns");
    if (recording(program)->backend->kind() != CRIA_DEVICE_CPU) {
      throw Error(CRIA_ERROR_UNSUPPORTED, "gather: weights whose columns stand in another order run on the CPU alone");
    }
    program->program.gather(x, {columns, count}, out);
  });
}

cria_status cria_program_finish(cria_program* program, cria_value result) {
  return guarded([&] { recording(program)->program.finish(result); });
}

cria_status cria_cancel_create(cria_cancel** cancel) {
  return guarded([&] {
    require_pointer(cancel, "cancel");
    *cancel = new cria_cancel;
  });
}

void cria_cancel_trigger(cria_cancel* cancel) {
  if (cancel != nullptr) cancel->triggered.store(true, std::memory_order_relaxed);
}

void cria_cancel_free(cria_cancel* cancel) { delete cancel; }

cria_status cria_program_run(cria_program* program, cria_cache* cache, const cria_batch* batch, cria_cancel* cancel,
                             float* result, size_t result_count) {
  return guarded([&] {
    const cria::Program& recorded = runnable(program, cache);
    const cria::Batch checked =
        cria::check_batch(read_struct(batch, "batch"), cache->cache->blocks,
                          {.vocabulary = recorded.vocabulary(), .positions = true, .writes = true});
    const std::size_t width = recorded.values()[static_cast<std::size_t>(recorded.result())].width;
    const std::size_t expected = cria::checked_product({checked.outputs.size(), width});
    require(result_count == expected, "result_count", std::to_string(expected) + ", outputs by width", result_count);
    require_array(result, expected, "result");
    program->backend->run(recorded, *cache->cache, checked, cancel == nullptr ? nullptr : &cancel->triggered, result);
    if (cancel != nullptr && cancel->triggered) throw Error(CRIA_ERROR_ABORTED, "the run was cancelled");
  });
}

cria_status cria_program_decode(cria_program* program, cria_cache* cache, const cria_batch* batch, uint32_t candidates,
                                const cria_sampling* sampling, size_t steps, cria_cancel* cancel, int32_t* tokens) {
  return guarded([&] {
    const cria::Program& recorded = runnable(program, cache);
    const std::size_t vocabulary = recorded.vocabulary();
    const std::size_t width = recorded.values()[static_cast<std::size_t>(recorded.result())].width;
    require(vocabulary > 0 && width <= vocabulary, "program", "one whose result is no wider than its vocabulary",
            width);
    const cria::DecodeBatch checked =
        cria::check_decode(read_struct(batch, "batch"), cache->cache->blocks, vocabulary, steps);
    const std::size_t most = std::min<std::size_t>(width, CRIA_MAX_CANDIDATES);
    require(candidates > 0 && candidates <= most, "candidates", "from 1 to " + std::to_string(most), candidates);
    const std::size_t sequences = checked.batch.size;
    cria::checked_product({sequences, steps, sizeof(int32_t)});
    const std::vector<cria_sampling> how = cria::read_structs(sampling, sequences, "sampling");
    require_array(tokens, sequences, "tokens");
    for (const auto& [size, temperature, top_p, seed] : how) {
      require(std::isfinite(temperature) && temperature >= 0, "sampling.temperature", "at least 0", temperature);
      require(top_p > 0 && top_p <= 1, "sampling.top_p", "above 0, at most 1", top_p);
    }
    if (sequences == 0) return;
    program->backend->decode(recorded, *cache->cache, checked.batch, {how, candidates, steps},
                             cancel == nullptr ? nullptr : &cancel->triggered, tokens);
    if (cancel != nullptr && cancel->triggered) throw Error(CRIA_ERROR_ABORTED, "the decode was cancelled");
  });
}

// Single kernels

cria_status cria_rmsnorm(cria_device* device, size_t rows, size_t dim, const float* x, const float* weight, float eps,
                         float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    require(dim > 0, "dim", "at least 1", dim);
    const std::size_t count = cria::checked_product({rows, dim, sizeof(float)});
    require_array(x, count, "x");
    require_pointer(weight, "weight");
    require_array(out, count, "out");
    require(std::isfinite(eps) && eps > 0, "eps", "above 0", eps);
    device->backend->rmsnorm(rows, dim, x, weight, eps, out);
  });
}

cria_status cria_quantize(cria_device* device, size_t rows, size_t dim, const float* x, int8_t* quants, float* scales,
                          int32_t* sums) {
  return guarded([&] {
    require_pointer(device, "device");
    require(dim > 0 && dim <= INT32_MAX, "dim", "from 1 to 2^31 - 1", dim);
    const std::size_t count = cria::checked_product({rows, dim, sizeof(float)});
    require_array(x, count, "x");
    require_array(quants, count, "quants");
    require_array(scales, count, "scales");
    require_array(sums, count, "sums");
    device->backend->quantize(rows, dim, x, quants, scales, sums);
  });
}

cria_status cria_embed(cria_device* device, const cria_tensor* table, size_t count, const int32_t* tokens, float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    const cria::Tensor& matrix = matrix_of(table, "table");
    require_on(device, table, "table");
    cria::checked_product({count, matrix.cols, sizeof(float)});
    require_array(tokens, count, "tokens");
    require_array(out, count, "out");
    for (std::size_t i = 0; i < count; ++i) {
      require(tokens[i] >= 0 && static_cast<std::size_t>(tokens[i]) < matrix.rows, "tokens",
              "from 0 to " + std::to_string(matrix.rows) + " - 1", tokens[i]);
    }
    device->backend->embed(matrix, count, tokens, out);
  });
}

cria_status cria_matmul(cria_device* device, const cria_tensor* weight, size_t tokens, const float* x, float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    const cria::Tensor& matrix = matrix_of(weight, "weight");
    require_on(device, weight, "weight");
    cria::checked_product({tokens, matrix.cols, sizeof(float)});
    cria::checked_product({tokens, matrix.rows, sizeof(float)});
    require_array(x, tokens, "x");
    require_array(out, tokens, "out");
    device->backend->matmul(matrix, tokens, x, out);
  });
}

cria_status cria_rope(cria_device* device, const cria_batch* batch, const cria_rope_options* options,
                      const cria_kv_layer* cache, float* qkv) {
  return guarded([&] {
    require_pointer(device, "device");
    const cria_kv_layer layer = checked_layer(cache);
    const cria_rope_options how = read_struct(options, "options");
    cria::check_rope(how, layer.kv_heads, layer.head_dim);
    const cria::Batch checked = cria::check_batch(read_struct(batch, "batch"), layer.blocks,
                                                  {.vocabulary = 0, .positions = true, .writes = true});
    cria::checked_product({checked.size, how.heads + 2 * layer.kv_heads, layer.head_dim, sizeof(float)});
    require_array(qkv, checked.size, "qkv");
    device->backend->rope(checked, how, layer, qkv);
  });
}

cria_status cria_attention(cria_device* device, const cria_batch* batch, size_t heads, const cria_kv_layer* cache,
                           const float* q, size_t q_stride, float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    const cria_kv_layer layer = checked_layer(cache);
    cria::check_heads(heads, layer.kv_heads);
    const std::size_t width = heads * layer.head_dim;
    require(q_stride >= width, "q_stride", "at least " + std::to_string(width) + ", heads by head_dim", q_stride);
    const cria::Batch checked = cria::check_batch(read_struct(batch, "batch"), layer.blocks,
                                                  {.vocabulary = 0, .positions = false, .writes = false});
    cria::checked_product({checked.size, q_stride, sizeof(float)});
    require_array(q, checked.size, "q");
    require_array(out, checked.size, "out");
    device->backend->attention(checked, heads, layer, q, q_stride, out);
  });
}

cria_status cria_swiglu(cria_device* device, size_t rows, size_t dim, const float* gate_up, float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    require(dim > 0, "dim", "at least 1", dim);
    const std::size_t count = cria::checked_product({rows, dim, 2, sizeof(float)});
    require_array(gate_up, count, "gate_up");
    require_array(out, count, "out");
    device->backend->swiglu(rows, dim, gate_up, out);
  });
}

cria_status cria_add(cria_device* device, size_t count, const float* x, const float* y, float* out) {
  return guarded([&] {
    require_pointer(device, "device");
    cria::checked_product({count, sizeof(float)});
    require_array(x, count, "x");
    require_array(y, count, "y");
    require_array(out, count, "out");
    device->backend->add(count, x, y, out);
  });
}
