// What a backend offers: memory for weights and caches, programs run over batches, and single kernels on host arrays.
// Arguments were checked by capi.cc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "../cria.h"
#include "batch.h"
#include "cache.h"
#include "program.h"
#include "tensor.h"

namespace cria {

// Set once, from any thread; runs look at it between slices.
using Cancel = std::atomic<bool>;

struct DecodeOptions {
  std::span<const cria_sampling> sampling;  // of each sequence
  std::size_t candidates, steps;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual cria_device_kind kind() const = 0;
  virtual cria_device_info info() const = 0;
  virtual std::shared_ptr<Tensor> matrix(cria_type type, std::size_t rows, std::size_t cols) = 0;
  // The matrix whose packed bytes stand at `offset` in the file, mapped; throws CRIA_ERROR_FILE where they do not fit
  // it.
  virtual std::shared_ptr<Tensor> map_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                             std::uint64_t offset) = 0;
  // The same, read into memory of its own.
  virtual std::shared_ptr<Tensor> read_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                              std::uint64_t offset) = 0;
  virtual std::shared_ptr<Tensor> vector(cria_type type, std::size_t size) = 0;
  virtual std::shared_ptr<Cache> cache(const CacheShape& shape, std::size_t blocks) = 0;

  // `result` has a row for each output. Where `cancel`, which may be null, is set, it returns early.
  virtual void run(const Program& program, Cache& cache, const Batch& batch, const Cancel* cancel, float* result) = 0;

  // The runs of a decode (cria_program_decode): `tokens` is [batch.size][steps]. Where `cancel` is set it returns
  // early.
  virtual void decode(const Program& program, Cache& cache, const Batch& batch, const DecodeOptions& options,
                      const Cancel* cancel, std::int32_t* tokens) = 0;

  // Of blocks of a cache, in the order that cria_cache_read gives: their bytes, and the inverse.
  virtual void read_blocks(const Cache& cache, std::span<const std::int32_t> blocks, std::uint8_t* out) = 0;
  virtual void write_blocks(Cache& cache, std::span<const std::int32_t> blocks, const std::uint8_t* bytes) = 0;
  virtual void move_slots(Cache& cache, const CacheMove& move) = 0;

  // What it does at most, in bytes or operations a second, measured once for each of `rates`.
  virtual void measure_limit(cria_limit limit, std::span<double> rates) = 0;

  virtual void rmsnorm(std::size_t rows, std::size_t dim, const float* x, const float* weight, float eps,
                       float* out) = 0;
  virtual void quantize(std::size_t rows, std::size_t dim, const float* x, std::int8_t* quants, float* scales,
                        std::int32_t* sums) = 0;
  virtual void embed(const Tensor& table, std::size_t count, const std::int32_t* tokens, float* out) = 0;
  virtual void matmul(const Tensor& weight, std::size_t tokens, const float* x, float* out) = 0;
  virtual void rope(const Batch& batch, const cria_rope_options& options, const cria_kv_layer& cache, float* qkv) = 0;
  virtual void attention(const Batch& batch, std::size_t heads, const cria_kv_layer& cache, const float* q,
                         std::size_t q_stride, float* out) = 0;
  virtual void swiglu(std::size_t rows, std::size_t dim, const float* gate_up, float* out) = 0;
  virtual void add(std::size_t count, const float* x, const float* y, float* out) = 0;
};

// The backend of options->kind, with what it asks for; throws CRIA_ERROR_UNSUPPORTED or CRIA_ERROR_ARGUMENT.
std::shared_ptr<Backend> open_backend(const cria_device_options& options);

}  // namespace cria
