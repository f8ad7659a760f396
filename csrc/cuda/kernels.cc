// The backend's single kernels: host arrays over, one op, and back. Nothing here is fast: it is how the tests, and
// whoever wants to see what a kernel computes, reach them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../core/checked.h"
#include "../core/weights.h"
#include "../cpu/rope.h"
#include "backend.h"
#include "blocks.h"
#include "plan.h"
#include "tensor.h"

namespace cria::cuda {
namespace {

// The ops count in int.
int int_of(std::size_t value, const char* name) {
  require(value <= INT32_MAX, name, "below 2^31 on a GPU", value);
  return static_cast<int>(value);
}

// A copy of a host array on the device.
template <class T>
class Operand {
 public:
  Operand(const DevicePtr& device, std::size_t count)
      : device_(device), memory_(device, checked_product({count, sizeof(T)})) {}
  Operand(const DevicePtr& device, const T* values, std::size_t count) : Operand(device, count) {
    device_->copy(memory_.data(), values, memory_.bytes());
  }

  T* data() const { return memory_.template data<T>(); }

  // When what was put on the stream is done.
  void read(T* out) const {
    device_->copy(out, memory_.data(), memory_.bytes());
    device_->synchronize();
  }

 private:
  DevicePtr device_;
  DeviceMemory memory_;
};

// Rows of which there are as many as there is room for.
class AllRows {
 public:
  AllRows(const DevicePtr& device, std::size_t count, const char* name = "rows")
      : capacity_(int_of(count, name)), count_(device, &capacity_, 1) {}
  operator Rows() const { return {capacity_, count_.data()}; }

 private:
  int capacity_;
  Operand<std::int32_t> count_;
};

// Quantised rows on the device.
struct QuantOperand {
  QuantOperand(const DevicePtr& device, std::size_t rows, std::size_t dim)
      : quants(device, checked_product({rows, superblocks(dim), kSuperblock})),
        scales(device, checked_product({rows, superblocks(dim), kSuperblock / kQuantBlock})),
        rows(rows) {}
  operator QuantRows() const { return {quants.data(), scales.data(), static_cast<int>(rows)}; }

  Operand<std::int8_t> quants;
  Operand<float> scales;
  std::size_t rows;
};

// A caller's layer of a cache on the device.
class LayerOperand {
 public:
  LayerOperand(const DevicePtr& device, const cria_kv_layer& host)
      : host_(host),
        k_bytes_(kv_side_bytes(host.key_type, host.head_dim)),
        v_bytes_(kv_side_bytes(host.value_type, host.head_dim)),
        heads_(checked_product({host.blocks, host.kv_heads})),
        staged_(checked_product({heads_, k_bytes_ + v_bytes_})),
        memory_(device, staged_.size()) {
    for (std::size_t i = 0; i < heads_; ++i) {
      keys_to_device(host.key_type, host.head_dim, k(i), place(i));
      std::memcpy(place(i) + k_bytes_, v(i), v_bytes_);
    }
    device->copy(memory_.data(), staged_.data(), staged_.size());
  }

  KvLayer layer() const {
    return {{memory_.data(), host_.key_type},
            {memory_.data() + k_bytes_, host_.value_type},
            static_cast<int>(host_.kv_heads),
            static_cast<int>(host_.head_dim),
            static_cast<std::int64_t>(k_bytes_ + v_bytes_)};
  }

  void read_back() {
    memory_.read(staged_.data());
    for (std::size_t i = 0; i < heads_; ++i) {
      keys_from_device(host_.key_type, host_.head_dim, place(i), k(i));
      std::memcpy(v(i), place(i) + k_bytes_, v_bytes_);
    }
  }

 private:
  std::uint8_t* k(std::size_t i) const { return static_cast<std::uint8_t*>(host_.k) + i * k_bytes_; }
  std::uint8_t* v(std::size_t i) const { return static_cast<std::uint8_t*>(host_.v) + i * v_bytes_; }
  std::uint8_t* place(std::size_t i) { return staged_.data() + i * (k_bytes_ + v_bytes_); }

  const cria_kv_layer host_;
  const std::size_t k_bytes_, v_bytes_, heads_;
  std::vector<std::uint8_t> staged_;
  Operand<std::uint8_t> memory_;
};

// A batch on the device.
class BatchOperand {
 public:
  BatchOperand(const DevicePtr& device, const Batch& batch, const AttentionTiles& tiles)
      : plan(batch, tiles), words_(plan.bytes() / sizeof(std::int32_t)), memory_(device, words_.size()) {
    plan.write(words_.data());
    device->copy(memory_.data(), words_.data(), plan.bytes());
  }

  const BatchPlan plan;
  const std::int32_t* base() const { return memory_.data(); }

 private:
  std::vector<std::int32_t> words_;
  Operand<std::int32_t> memory_;
};

}  // namespace

void CudaBackend::rmsnorm(std::size_t rows, std::size_t dim, const float* x, const float* weight, float eps,
                          float* out) {
  const std::lock_guard turn(device_->turn);
  const Operand<float> x_there(device_, x, rows * dim), weight_there(device_, weight, dim);
  const AllRows count(device_, rows);
  device_->launch(device_->plugin.rmsnorm,
                  RmsNorm{x_there.data(), weight_there.data(), x_there.data(), {}, count, int_of(dim, "dim"), eps},
                  "rmsnorm");
  x_there.read(out);
}

void CudaBackend::quantize(std::size_t rows, std::size_t dim, const float* x, std::int8_t* quants, float* scales,
                           std::int32_t* sums) {
  const std::lock_guard turn(device_->turn);
  const Operand<float> x_there(device_, x, rows * dim);
  const QuantOperand out(device_, rows, dim);
  const AllRows count(device_, rows);
  device_->launch(device_->plugin.quantize, Quantize{x_there.data(), out, count, int_of(dim, "dim")}, "quantize");

  // From [chunk][row] and [block][row] to rows, and the sums, which the device does not keep.
  const std::size_t stride = superblocks(dim) * kSuperblock, blocks = stride / kQuantBlock;
  std::vector<std::int8_t> chunks(rows * stride);
  std::vector<float> block_scales(rows * blocks);
  out.quants.read(chunks.data());
  out.scales.read(block_scales.data());
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t chunk = 0; chunk < stride / kQuantChunk; ++chunk) {
      std::memcpy(quants + row * stride + chunk * kQuantChunk, chunks.data() + (chunk * rows + row) * kQuantChunk,
                  kQuantChunk);
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::int8_t* block = quants + row * stride + b * kQuantBlock;
      scales[row * blocks + b] = block_scales[b * rows + row];
      std::int32_t sum = 0;
      for (int k = 0; k < kQuantBlock; ++k) sum += block[k];
      sums[row * blocks + b] = sum;
    }
  }
}

void CudaBackend::embed(const Tensor& table, std::size_t count, const std::int32_t* tokens, float* out) {
  const std::lock_guard turn(device_->turn);
  const Operand<std::int32_t> tokens_there(device_, tokens, count);
  const Operand<float> out_there(device_, count * table.cols);
  const AllRows rows(device_, count, "count");
  device_->launch(device_->plugin.embed,
                  Embed{static_cast<const Matrix&>(table).weights(), tokens_there.data(), rows, out_there.data()},
                  "embed");
  out_there.read(out);
}

void CudaBackend::matmul(const Tensor& weight, std::size_t tokens, const float* x, float* out) {
  const std::lock_guard turn(device_->turn);
  const Weights weights = static_cast<const Matrix&>(weight).weights();
  const Operand<float> x_there(device_, x, tokens * weight.cols), out_there(device_, tokens * weight.rows);
  const AllRows rows(device_, tokens, "tokens");
  const MatmulOut stored{out_there.data(), static_cast<std::int64_t>(weight.rows), Finish::kStore};
  if (is_quantised(weight.type)) {
    const QuantOperand quants(device_, tokens, weight.cols);
    device_->launch(device_->plugin.quantize, Quantize{x_there.data(), quants, rows, static_cast<int>(weight.cols)},
                    "quantize");
    device_->launch(device_->plugin.matmul_q, MatmulQ{weights, quants, rows, stored}, "matmul_q");
    out_there.read(out);
  } else {
    device_->launch(device_->plugin.matmul_f, MatmulF{weights, x_there.data(), rows, stored}, "matmul_f");
    out_there.read(out);
  }
}

void CudaBackend::rope(const Batch& batch, const cria_rope_options& options, const cria_kv_layer& cache, float* qkv) {
  const std::lock_guard turn(device_->turn);
  const std::size_t pairs = options.rotary_dim / 2;
  const std::size_t floats = batch.size * (options.heads + 2 * cache.kv_heads) * cache.head_dim;
  const cria::RopeAngles angles = cria::rope_angles(options);

  const AttentionTiles no_tiles;
  const BatchOperand there(device_, batch, no_tiles);
  const Operand<float> qkv_there(device_, qkv, floats);
  const Operand<double> frequencies_there(device_, angles.frequencies.data(), pairs);
  const Operand<float> cosine(device_, there.plan.capacities().tokens * pairs);
  const Operand<float> sine(device_, there.plan.capacities().tokens * pairs);
  LayerOperand layer(device_, cache);
  const DeviceBatch on_device = there.plan.batch(there.base());
  const Rows rows = there.plan.tokens(there.base());
  device_->launch(device_->plugin.rope_angles,
                  RopeAngles{on_device, rows, frequencies_there.data(), static_cast<int>(pairs), angles.magnitude,
                             cosine.data(), sine.data()},
                  "rope_angles");
  device_->launch(device_->plugin.rope,
                  Rope{qkv_there.data(), cosine.data(), sine.data(), on_device, rows, layer.layer(),
                       static_cast<int>(options.heads), static_cast<int>(options.rotary_dim), options.halves != 0},
                  "rope");
  qkv_there.read(qkv);
  layer.read_back();
}

void CudaBackend::attention(const Batch& batch, std::size_t heads, const cria_kv_layer& cache, const float* q,
                            std::size_t q_stride, float* out) {
  if (batch.size == 0) return;
  const std::lock_guard turn(device_->turn);
  const int group = static_cast<int>(heads / cache.kv_heads);
  const Plugin& plugin = device_->plugin;
  const AttentionTiles tiles(batch, static_cast<std::size_t>(plugin.attention_queries(group, false)),
                             static_cast<std::size_t>(plugin.attention_queries(group, true)));
  const BatchOperand there(device_, batch, tiles);
  const BatchPlan& plan = there.plan;
  const std::size_t width = heads * cache.head_dim;
  // The kernels read a row of queries in pieces of 16 bytes, which a stride of the caller's may not keep aligned.
  std::vector<float> rows(checked_product({batch.size, width}));
  for (std::size_t i = 0; i < batch.size; ++i) std::copy_n(q + i * q_stride, width, rows.data() + i * width);
  const Operand<float> q_there(device_, rows.data(), rows.size()), out_there(device_, rows.size());
  const Operand<float> partials(
      device_, checked_product({plan.capacities().splits, plan.capacities().split_queries, heads, 2 + cache.head_dim}));
  const LayerOperand layer(device_, cache);
  Attention op{.q = q_there.data(),
               .q_stride = static_cast<std::int64_t>(width),
               .cache = layer.layer(),
               .batch = plan.batch(there.base()),
               .tiles = plan.whole_tiles(there.base()),
               .tile_rows = plan.whole_tile_rows(there.base()),
               .heads = static_cast<int>(heads),
               .scale = 1.0f / std::sqrt(static_cast<float>(cache.head_dim)),
               .splits = 0,
               .partials = partials.data(),
               .partial_rows = static_cast<int>(plan.capacities().split_queries),
               .out = out_there.data(),
               .quants = {}};
  if (!tiles.whole.empty()) device_->launch(plugin.attention, op, "attention");
  if (!tiles.split.empty()) {
    op.tiles = plan.split_tiles(there.base());
    op.tile_rows = plan.split_tile_rows(there.base());
    op.splits = static_cast<int>(plan.capacities().splits);
    device_->launch(plugin.attention, op, "attention");
    device_->launch(plugin.attention_merge, op, "attention_merge");
  }
  out_there.read(out);
}

void CudaBackend::swiglu(std::size_t rows, std::size_t dim, const float* gate_up, float* out) {
  const std::lock_guard turn(device_->turn);
  const Operand<float> gate_up_there(device_, gate_up, 2 * rows * dim), out_there(device_, rows * dim);
  const AllRows count(device_, rows);
  device_->launch(device_->plugin.swiglu, SwiGlu{gate_up_there.data(), out_there.data(), count, int_of(dim, "dim")},
                  "swiglu");
  out_there.read(out);
}

void CudaBackend::add(std::size_t count, const float* x, const float* y, float* out) {
  const std::lock_guard turn(device_->turn);
  const Operand<float> x_there(device_, x, count), y_there(device_, y, count);
  // An element's result depends on nothing else, so it is cut in rows of some size, and a rest.
  constexpr std::size_t kRow = 4096;
  const std::size_t even = count / kRow * kRow;
  const AllRows rows(device_, count / kRow), one(device_, 1);
  const auto add = [&](std::size_t first, const Rows& rows, std::size_t dim) {
    float* x = x_there.data() + first;
    device_->launch(device_->plugin.add, Add{x, y_there.data() + first, x, rows, static_cast<int>(dim)}, "add");
  };
  if (even > 0) add(0, rows, kRow);
  if (count > even) add(even, one, count - even);
  x_there.read(out);
}

}  // namespace cria::cuda
