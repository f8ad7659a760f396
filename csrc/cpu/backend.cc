#include "backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../core/checked.h"
#include "../core/text.h"
#include "cache.h"
#include "executor.h"
#include "fence.h"
#include "kv_move.h"
#include "limits.h"
#include "machine.h"
#include "plan.h"
#include "pool.h"
#include "sample.h"
#include "tensor.h"

namespace cria::cpu {
namespace {

KvLayer layer_of(const cria_kv_layer& cache) {
  const auto side = [&](void* data, cria_type type) {
    return KvSide{static_cast<std::uint8_t*>(data), type, kv_head_bytes(type, cache.head_dim)};
  };
  return {side(cache.k, cache.key_type),
          side(cache.v, cache.value_type),
          cache.kv_heads,
          cache.head_dim,
          cache.blocks,
          /*group_bits=*/0};
}

// Rows that are quantised for a caller, who is given the sums of whole blocks and no seeds.
struct QuantizeRows {
  const Kernels* kernels;
  const float* x;  // [rows][dim]
  std::size_t dim;
  std::int8_t* quants;
  float* scales;
  std::int32_t* sums;
};

// A piece of a row at a time: the sums of halves, which the caller does not get, then take 512 bytes of stack.
void quantize_rows(const QuantizeRows& op, std::size_t begin, std::size_t end) {
  constexpr std::size_t kColumns = 4096;
  QuantSums halves[kColumns / kBlock];
  for (std::size_t row = begin; row < end; ++row) {
    for (std::size_t first = 0; first < op.dim; first += kColumns) {
      const std::size_t dim = std::min(kColumns, op.dim - first);
      const std::size_t at = row * quant_blocks(op.dim) + first / kBlock;
      const QuantRows out = quant_row_by_row(op.quants + at * kBlock, op.scales + at, op.sums + at, halves, dim);
      op.kernels->quantize(Quantize{op.x + row * op.dim + first, dim, dim, out}, 0, 1);
      for (std::size_t i = 0; i < out.blocks; ++i) out.seeds[i] /= kSeed;
    }
  }
}

// The most that a device keeps between products. To map and unmap a megabyte takes 0.1 ms; a product of so many
// activations with 1,000 rows, 3 ms. Where memory is fenced each product has its own, so that its end is seen.
constexpr std::size_t kMostSpare = kFenced ? 0 : 1 << 20;

}  // namespace

cria_device_info describe() {
  const MemorySize memory = machine_memory();
  cria_device_info info{.struct_size = sizeof(cria_device_info),
                        .kind = CRIA_DEVICE_CPU,
                        .available = 1,
                        .isa = best_isa(),
                        .threads = default_threads(),
                        .memory_bytes = memory.total,
                        .available_bytes = memory.available};
  put_text(info.name, processor_name());
  for (const cria_isa isa : {CRIA_ISA_SCALAR, CRIA_ISA_AVX2, CRIA_ISA_AVX512}) {
    if (isa_available(isa)) info.isas |= 1u << isa;
  }
  return info;
}

CpuBackend::CpuBackend(cria_isa isa, unsigned threads)
    : kernels_(kernels(isa == CRIA_ISA_AUTO ? best_isa() : isa)),
      threads_(threads == 0 ? default_threads() : threads) {}

cria_device_info CpuBackend::info() const {
  cria_device_info info = describe();
  info.isa = kernels_.isa;
  info.threads = threads_;
  return info;
}

std::shared_ptr<Tensor> CpuBackend::matrix(cria_type type, std::size_t rows, std::size_t cols) {
  return std::make_shared<Matrix>(type, rows, cols, threads_);
}

std::shared_ptr<Tensor> CpuBackend::map_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                               std::uint64_t offset) {
  return std::make_shared<Matrix>(type, rows, cols, threads_, file, offset);
}

std::shared_ptr<Tensor> CpuBackend::read_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                                std::uint64_t offset) {
  auto matrix = std::make_shared<Matrix>(type, rows, cols, threads_);
  matrix->read(file, offset);
  return matrix;
}

std::shared_ptr<Tensor> CpuBackend::vector(cria_type type, std::size_t size) {
  return std::make_shared<Vector>(type, size);
}

std::shared_ptr<Cache> CpuBackend::cache(const CacheShape& shape, std::size_t blocks) {
  return std::make_shared<KvCache>(shape, blocks);
}

void CpuBackend::run(const Program& program, Cache& cache, const Batch& batch, const Cancel* cancel, float* result) {
  execute(kernels_, threads_, program, static_cast<const KvCache&>(cache), batch, cancel, result);
}

void CpuBackend::decode(const Program& program, Cache& cache, const Batch& batch, const DecodeOptions& options,
                        const Cancel* cancel, std::int32_t* tokens) {
  const std::size_t width = program.values()[static_cast<std::size_t>(program.result())].width;
  std::vector<std::int32_t> ids(batch.tokens.begin(), batch.tokens.end());
  std::vector<std::int32_t> positions(batch.positions.begin(), batch.positions.end());
  std::vector<float> logits(checked_product({batch.size, width}));
  Batch step = batch;
  step.tokens = ids;
  step.positions = positions;
  for (std::size_t i = 0; i < options.steps; ++i) {
    run(program, cache, step, cancel, logits.data());
    if (cancel != nullptr && *cancel) return;
    for (std::size_t s = 0; s < batch.size; ++s) {
      const cria_sampling& how = options.sampling[s];
      const std::vector<Candidate> candidates = top_k({logits.data() + s * width, width}, options.candidates);
      ids[s] = sample(candidates, {how.temperature, how.top_p, how.seed}, positions[s]);
      tokens[s * options.steps + i] = ids[s];
      positions[s] += 1;
      step.sequences[s].past += 1;
    }
  }
}

// copy(stored, bytes, place) for K and V of each head of each layer of the blocks, in the order of cria_cache_read.
template <class Byte, class Copy>
void CpuBackend::each_head(const KvCache& cache, std::span<const std::int32_t> blocks, Byte* data,
                           const Copy& copy) const {
  const std::size_t layers = cache.shape.layers, heads = cache.shape.kv_heads;
  const std::size_t k_bytes = kv_head_bytes(cache.shape.key_type, cache.shape.head_dim);
  const std::size_t v_bytes = kv_head_bytes(cache.shape.value_type, cache.shape.head_dim);
  const auto copy_layers = [&](std::size_t begin, std::size_t end) {
    for (std::size_t unit = begin; unit < end; ++unit) {
      const KvLayer layer = cache.layer(unit % layers);
      const auto block = static_cast<std::size_t>(blocks[unit / layers]);
      for (std::size_t head = 0; head < heads; ++head) {
        Byte* place = data + (unit * heads + head) * (k_bytes + v_bytes);
        copy(layer.k_head(block, head), k_bytes, place);
        copy(layer.v_head(block, head), v_bytes, place + k_bytes);
      }
    }
  };
  // As a run of the pool it takes its turn with the programs.
  Pool::instance().parallel_for(blocks.size() * layers, grain(2 * heads * (k_bytes + v_bytes)), threads_, copy_layers);
}

void CpuBackend::read_blocks(const Cache& cache, std::span<const std::int32_t> blocks, std::uint8_t* out) {
  each_head(static_cast<const KvCache&>(cache), blocks, out,
            [](const std::uint8_t* stored, std::size_t size, std::uint8_t* copy) { std::memcpy(copy, stored, size); });
}

void CpuBackend::write_blocks(Cache& cache, std::span<const std::int32_t> blocks, const std::uint8_t* bytes) {
  each_head(static_cast<const KvCache&>(cache), blocks, bytes,
            [](std::uint8_t* stored, std::size_t size, const std::uint8_t* copy) { std::memcpy(stored, copy, size); });
}

void CpuBackend::move_slots(Cache& cache, const CacheMove& move) {
  const std::size_t layers = cache.shape.layers, kv_heads = cache.shape.kv_heads;
  std::vector<KvLayer> arenas;
  for (std::size_t i = 0; i < layers; ++i) arenas.push_back(static_cast<const KvCache&>(cache).layer(i));
  const std::vector<KvRun> runs = kv_runs(move.from, move.to);
  KvMove operands{.layers = arenas.data(), .kv_heads = kv_heads, .runs = runs.data(), .run_count = runs.size()};
  std::vector<float> cosine, sine;
  if (move.rope != nullptr) {
    operands.rotary_dim = move.rope->rotary_dim;
    operands.halves = move.rope->halves != 0;
    cosine.resize(operands.rotary_dim / 2);
    sine.resize(operands.rotary_dim / 2);
    rope_shift(move.shift, rope_angles(*move.rope), cosine.data(), sine.data());
    operands.cosine = cosine.data();
    operands.sine = sine.data();
  }
  // A run reads and writes the lines of a block's keys and values, whole or in part.
  run_kernel(kernels_.kv_move, operands, layers * kv_heads, 2 * runs.size() * arenas[0].head_bytes());
}

void CpuBackend::measure_limit(cria_limit limit, std::span<double> rates) {
  cpu::measure_limit(kernels_.isa, limit, threads_, rates);
}

// The single kernels.

template <class Operands>
void CpuBackend::run_kernel(void (*kernel)(const Operands&, std::size_t, std::size_t), const Operands& operands,
                            std::size_t units, std::size_t unit_bytes) const {
  Pool::instance().parallel_for(units, grain(unit_bytes), threads_,
                                [&](std::size_t begin, std::size_t end) { kernel(operands, begin, end); });
}

void CpuBackend::rmsnorm(std::size_t rows, std::size_t dim, const float* x, const float* weight, float eps,
                         float* out) {
  run_kernel(kernels_.rmsnorm, RmsNorm{x, weight, out, dim, dim, dim, eps}, rows, 8 * dim);
}

void CpuBackend::quantize(std::size_t rows, std::size_t dim, const float* x, std::int8_t* quants, float* scales,
                          std::int32_t* sums) {
  run_kernel(quantize_rows, QuantizeRows{&kernels_, x, dim, quants, scales, sums}, rows, 8 * dim);
}

void CpuBackend::embed(const Tensor& table, std::size_t count, const std::int32_t* tokens, float* out) {
  const Panels panels = static_cast<const Matrix&>(table).panels();
  run_kernel(kernels_.embed, Embed{panels, tokens, out, panels.cols}, count, kLine * panels.cols);
}

void CpuBackend::matmul(const Tensor& weight, std::size_t tokens, const float* x, float* out) {
  const Panels panels = static_cast<const Matrix&>(weight).panels();
  const std::size_t count = panel_count(panels.rows), cost = matmul_panel_bytes(panels, tokens);
  const MatmulOut stored{out, panels.rows, Finish::kStore};
  if (!is_quantised(panels.type)) {
    run_kernel(kernels_.matmul_f, MatmulF{panels, x, panels.cols, tokens, stored}, count, cost);
    return;
  }
  QuantMemory memory = take_spare(QuantMemory::bytes(tokens, panels.cols));
  memory.grow(tokens, panels.cols);
  const QuantRows rows = memory.rows(tokens, panels.cols);
  run_kernel(kernels_.quantize, Quantize{x, panels.cols, panels.cols, rows}, tokens, 8 * panels.cols);
  run_kernel(kernels_.matmul_q(panels.type), MatmulQ{panels, rows, tokens, stored}, count, cost);
  keep_spare(std::move(memory));
}

// Of no bytes for a product that needs more than is kept: a smaller one finds the spare where it was.
QuantMemory CpuBackend::take_spare(std::size_t bytes) {
  if (bytes > kMostSpare) return {};
  const std::lock_guard lock(spare_access_);
  return std::move(spare_);
}

void CpuBackend::keep_spare(QuantMemory&& memory) {
  if (memory.bytes() > kMostSpare) return;
  const std::lock_guard lock(spare_access_);
  if (memory.bytes() > spare_.bytes()) spare_ = std::move(memory);
}

void CpuBackend::rope(const Batch& batch, const cria_rope_options& options, const cria_kv_layer& cache, float* qkv) {
  const BatchPlan plan(batch);
  const std::size_t angles = batch.size * (options.rotary_dim / 2);
  std::vector<float> cosine(angles), sine(angles);
  rope_table(batch.positions, rope_angles(options), cosine.data(), sine.data());
  const std::size_t stride = (options.heads + 2 * cache.kv_heads) * cache.head_dim;
  run_kernel(kernels_.rope,
             Rope{qkv, stride, cosine.data(), sine.data(), plan.slots.data(), layer_of(cache), options.heads,
                  options.rotary_dim, options.halves != 0},
             batch.size * cache.kv_heads, 8 * stride / cache.kv_heads);
}

void CpuBackend::attention(const Batch& batch, std::size_t heads, const cria_kv_layer& cache, const float* q,
                           std::size_t q_stride, float* out) {
  const BatchPlan batch_plan(batch);
  const AttentionPlan plan(batch, heads, cache.kv_heads, threads_);
  const KvLayer layer = layer_of(cache);
  std::vector<float> partials(checked_product({plan.partials, 2 + layer.head_dim}));
  const Attention attention{.q = q,
                            .q_stride = q_stride,
                            .cache = layer,
                            .heads = heads,
                            .scale = 1.0f / std::sqrt(static_cast<float>(layer.head_dim)),
                            .sequences = batch_plan.sequences.data(),
                            .tasks = plan.tasks.data(),
                            .merges = plan.merges.data(),
                            .partials = partials.data(),
                            .out = out,
                            .out_stride = heads * layer.head_dim};
  run_kernel(kernels_.attention, attention, plan.tasks.size(), plan.task_cost(layer));
  run_kernel(kernels_.attention_merge, attention, plan.merges.size(), 16 * layer.head_dim);
}

void CpuBackend::swiglu(std::size_t rows, std::size_t dim, const float* gate_up, float* out) {
  run_kernel(kernels_.swiglu, SwiGlu{gate_up, out, dim, 2 * dim, dim}, rows, 32 * dim);
}

void CpuBackend::add(std::size_t count, const float* x, const float* y, float* out) {
  // One row is enough: an element's result depends on nothing else. Threads want rows, so it is cut in even ones, and
  // rest.
  constexpr std::size_t kRow = 4096;
  const std::size_t rows = count / kRow, rest = count % kRow, done = rows * kRow;
  run_kernel(kernels_.add, Add{x, y, out, kRow, kRow, kRow, kRow}, rows, 12 * kRow);
  kernels_.add(Add{x + done, y + done, out + done, rest, rest, rest, rest}, 0, 1);
}

}  // namespace cria::cpu
