// The CPU backend: one instruction set's kernels, and a number of the pool's threads.
#pragma once

#include <mutex>

#include "../core/backend.h"
#include "cache.h"
#include "kernels.h"
#include "quant_memory.h"

namespace cria::cpu {

// What the machine has, and what an open without wishes would take.
cria_device_info describe();

class CpuBackend final : public Backend {
 public:
  // `isa` may be CRIA_ISA_AUTO, `threads` 0.
  CpuBackend(cria_isa isa, unsigned threads);

  cria_device_kind kind() const override { return CRIA_DEVICE_CPU; }
  cria_device_info info() const override;
  std::shared_ptr<Tensor> matrix(cria_type type, std::size_t rows, std::size_t cols) override;
  std::shared_ptr<Tensor> map_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                     std::uint64_t offset) override;
  std::shared_ptr<Tensor> read_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                      std::uint64_t offset) override;
  std::shared_ptr<Tensor> vector(cria_type type, std::size_t size) override;
  std::shared_ptr<Cache> cache(const CacheShape& shape, std::size_t blocks) override;
  void run(const Program& program, Cache& cache, const Batch& batch, const Cancel* cancel, float* result) override;
  void decode(const Program& program, Cache& cache, const Batch& batch, const DecodeOptions& options,
              const Cancel* cancel, std::int32_t* tokens) override;
  void read_blocks(const Cache& cache, std::span<const std::int32_t> blocks, std::uint8_t* out) override;
  void write_blocks(Cache& cache, std::span<const std::int32_t> blocks, const std::uint8_t* bytes) override;
  void move_slots(Cache& cache, const CacheMove& move) override;
  void measure_limit(cria_limit limit, std::span<double> rates) override;

  void rmsnorm(std::size_t rows, std::size_t dim, const float* x, const float* weight, float eps, float* out) override;
  void quantize(std::size_t rows, std::size_t dim, const float* x, std::int8_t* quants, float* scales,
                std::int32_t* sums) override;
  void embed(const Tensor& table, std::size_t count, const std::int32_t* tokens, float* out) override;
  void matmul(const Tensor& weight, std::size_t tokens, const float* x, float* out) override;
  void rope(const Batch& batch, const cria_rope_options& options, const cria_kv_layer& cache, float* qkv) override;
  void attention(const Batch& batch, std::size_t heads, const cria_kv_layer& cache, const float* q,
                 std::size_t q_stride, float* out) override;
  void swiglu(std::size_t rows, std::size_t dim, const float* gate_up, float* out) override;
  void add(std::size_t count, const float* x, const float* y, float* out) override;

 private:
  template <class Operands>
  void run_kernel(void (*kernel)(const Operands&, std::size_t, std::size_t), const Operands& operands,
                  std::size_t units, std::size_t unit_bytes) const;

  template <class Byte, class Copy>
  void each_head(const KvCache& cache, std::span<const std::int32_t> blocks, Byte* bytes, const Copy& copy) const;

  QuantMemory take_spare(std::size_t bytes);
  void keep_spare(QuantMemory&& memory);

  const Kernels& kernels_;
  const unsigned threads_;
  std::mutex spare_access_;
  QuantMemory spare_;  // of a call that has ended, for the next
};

}  // namespace cria::cpu
