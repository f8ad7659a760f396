#include "executor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <mutex>
#include <variant>
#include <vector>

#include "../core/checked.h"
#include "plan.h"
#include "pool.h"
#include "quant_memory.h"
#include "tensor.h"

namespace cria::cpu {
namespace {

// The rows of x that the batch wants logits of. It only copies, so it is the same for every instruction set.
struct Select {
  const float* x;
  const std::int32_t* rows;
  float* out;
  std::size_t dim, x_stride, out_stride;
};

void select(const Select& op, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const float* row = op.x + static_cast<std::size_t>(op.rows[i]) * op.x_stride;
    std::memcpy(op.out + i * op.out_stride, row, op.dim * sizeof(float));
  }
}

// Columns in another order, or of none. It waits for its scattered reads, which no instruction set does faster.
struct Gather {
  const float* x;
  const std::int32_t* columns;
  float* out;
  std::size_t dim, x_stride, out_stride;
};

void gather(const Gather& op, std::size_t begin, std::size_t end) {
  for (std::size_t i = begin; i < end; ++i) {
    const float* row = op.x + i * op.x_stride;
    for (std::size_t k = 0; k < op.dim; ++k) {
      op.out[i * op.out_stride + k] = op.columns[k] < 0 ? 0.0f : row[op.columns[k]];
    }
  }
}

// Rows that are normalised and, while they are in L1, quantised for the products that follow.
struct NormQuantize {
  const Kernels* kernels;
  RmsNorm norm;
  Quantize quantize;
};

void norm_quantize(const NormQuantize& op, std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; row += kNormRows) {
    const std::size_t next = std::min(end, row + kNormRows);
    op.kernels->rmsnorm(op.norm, row, next);
    op.kernels->quantize(op.quantize, row, next);
  }
}

// Steps that read and write less are one thread's: handing them over and back would cost what it saves. Shared from 40
// KiB a step on, two threads took 480 us over a token of 15M parameters where one took 245; from 128 KiB on 233.
constexpr std::size_t kShareBytes = 128 << 10;

// A kernel and its operands.
template <class Operands>
struct Bound {
  void (*kernel)(const Operands&, std::size_t, std::size_t);
  Operands operands;
};

using AnyBound = std::variant<Bound<Embed>, Bound<RmsNorm>, Bound<Quantize>, Bound<MatmulQ>, Bound<MatmulF>,
                              Bound<Rope>, Bound<Attention>, Bound<PrefixAttention>, Bound<SwiGlu>, Bound<Add>,
                              Bound<Select>, Bound<Gather>, Bound<NormQuantize>>;

// What a program keeps from run to run.
struct Workspace {
  // Grows to `bytes`; what it held is lost.
  static std::uint8_t* sized(Memory& memory, std::size_t bytes) {
    if (memory.bytes() < bytes) memory = Memory(bytes);
    return memory.data();
  }

  std::vector<Memory> values;
  QuantMemory quants;
  std::vector<Memory> cosines, sines;
  Memory partials;
  std::vector<AnyBound> bound;
  std::vector<Step> steps;
};

class Run {
 public:
  Run(const Kernels& kernels, unsigned threads, const Program& program, const KvCache& cache, const Batch& batch,
      float* result)
      : kernels_(kernels), threads_(threads), program_(program), cache_(cache), batch_(batch), plan_(batch) {
    if (program.workspace == nullptr) program.workspace = std::make_shared<Workspace>();
    workspace_ = static_cast<Workspace*>(program.workspace.get());
    place_values(result);
    place_quantised();
    place_partials();
    fill_angles();
    // No reallocation from here on: the steps point at their operands. Attention has two steps.
    workspace_->bound.clear();
    workspace_->bound.reserve(2 * program.ops().size());
    workspace_->steps.clear();
    const std::vector<Op>& ops = program.ops();
    for (std::size_t i = 0; i < ops.size(); ++i) {
      const auto* norm = std::get_if<RmsNormOp>(&ops[i]);
      const auto* quantize = i + 1 < ops.size() ? std::get_if<QuantizeOp>(&ops[i + 1]) : nullptr;
      if (norm != nullptr && quantize != nullptr && quantize->x == norm->out) {
        bind(*norm, *quantize);
        ++i;
      } else {
        std::visit([this](const auto& recorded) { bind(recorded); }, ops[i]);
      }
    }
  }

  std::span<const Step> steps() const { return workspace_->steps; }

 private:
  std::size_t rows_of(cria_value value) const {
    return program_.values()[static_cast<std::size_t>(value)].rows == CRIA_ROWS_TOKENS ? batch_.size
                                                                                       : batch_.outputs.size();
  }
  std::size_t width(cria_value value) const { return program_.values()[static_cast<std::size_t>(value)].width; }
  // Floats from row to row. Rows that were a multiple of 4 KiB apart would share a few sets of L1 and L2 and drive one
  // another out; the result, which is the caller's array, has none between.
  std::size_t stride(cria_value value) const {
    const bool aliased = width(value) * sizeof(float) % 4096 == 0 && value != program_.result();
    return width(value) + (aliased ? kLine / sizeof(float) : 0);
  }
  float* data(cria_value value) const { return values_[static_cast<std::size_t>(value)]; }

  void place_values(float* result) {
    const std::size_t count = program_.values().size();
    workspace_->values.resize(count);
    values_.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto value = static_cast<cria_value>(i);
      values_[i] = value == program_.result()
                       ? result
                       : reinterpret_cast<float*>(Workspace::sized(
                             workspace_->values[i], checked_product({rows_of(value), stride(value), sizeof(float)})));
    }
  }

  void place_quantised() {
    if (program_.quantised_width() == 0) return;
    workspace_->quants.grow(std::max(batch_.size, batch_.outputs.size()), program_.quantised_width());
  }

  void place_partials() {
    std::size_t count = 0;
    for (const Op& op : program_.ops()) {
      if (const auto* attention = std::get_if<AttentionOp>(&op)) {
        count = std::max(count, attention_plan(attention->heads).partials);
      }
    }
    Workspace::sized(workspace_->partials, checked_product({count, 2 + program_.cache().head_dim, sizeof(float)}));
  }

  // A value's rows, quantised: each op uses the one place at its own width.
  QuantRows quantised(cria_value x) const { return workspace_->quants.rows(rows_of(x), width(x)); }

  void fill_angles() {
    workspace_->cosines.resize(program_.angles().size());
    workspace_->sines.resize(program_.angles().size());
    for (std::size_t i = 0; i < program_.angles().size(); ++i) {
      const RopeAngles& angles = program_.angles()[i];
      const std::size_t bytes = checked_product({batch_.size, angles.pairs(), sizeof(float)});
      auto* cosine = reinterpret_cast<float*>(Workspace::sized(workspace_->cosines[i], bytes));
      auto* sine = reinterpret_cast<float*>(Workspace::sized(workspace_->sines[i], bytes));
      rope_table(batch_.positions, angles, cosine, sine);
    }
  }

  template <class Operands>
  void push(void (*kernel)(const Operands&, std::size_t, std::size_t), const Operands& operands, std::size_t units,
            std::size_t unit_bytes) {
    AnyBound& bound = workspace_->bound.emplace_back(Bound<Operands>{kernel, operands});
    const auto call = [](const void* context, std::size_t begin, std::size_t end) {
      const auto& self = *static_cast<const Bound<Operands>*>(context);
      self.kernel(self.operands, begin, end);
    };
    const std::size_t least = units * unit_bytes < kShareBytes ? std::max<std::size_t>(1, units) : grain(unit_bytes);
    workspace_->steps.push_back({call, std::get_if<Bound<Operands>>(&bound), units, least});
  }

  void bind(const EmbedOp& op) {
    const Panels table = static_cast<const Matrix&>(*op.table).panels();
    push(kernels_.embed, Embed{table, batch_.tokens.data(), data(op.out), stride(op.out)}, batch_.size,
         64 * table.cols);
  }

  RmsNorm rmsnorm(const RmsNormOp& op) const {
    const float* weight = static_cast<const Vector&>(*op.weight).data();
    return {data(op.x), weight, data(op.out), width(op.x), stride(op.x), stride(op.out), op.eps};
  }
  Quantize quantize(const QuantizeOp& op) const { return {data(op.x), width(op.x), stride(op.x), quantised(op.x)}; }

  void bind(const RmsNormOp& op) { push(kernels_.rmsnorm, rmsnorm(op), rows_of(op.x), 8 * width(op.x)); }

  void bind(const QuantizeOp& op) { push(kernels_.quantize, quantize(op), rows_of(op.x), 8 * width(op.x)); }

  void bind(const RmsNormOp& norm, const QuantizeOp& quantize_op) {
    push(&norm_quantize, NormQuantize{&kernels_, rmsnorm(norm), quantize(quantize_op)}, rows_of(norm.x),
         16 * width(norm.x));
  }

  void bind(const MatmulOp& op) {
    const Panels weights = static_cast<const Matrix&>(*op.weight).panels();
    const MatmulOut out{data(op.out) + op.column, stride(op.out), op.finish};
    const std::size_t tokens = rows_of(op.x), units = matmul_units(weights, op.finish);
    const std::size_t cost = matmul_panel_bytes(weights, tokens) * panel_count(weights.rows) / units;
    if (is_quantised(weights.type)) {
      push(kernels_.matmul_q(weights.type), MatmulQ{weights, quantised(op.x), tokens, out}, units, cost);
    } else {
      push(kernels_.matmul_f, MatmulF{weights, data(op.x), stride(op.x), tokens, out}, units, cost);
    }
  }

  void bind(const RopeOp& op) {
    const auto* cosine = reinterpret_cast<const float*>(workspace_->cosines[op.angles].data());
    const auto* sine = reinterpret_cast<const float*>(workspace_->sines[op.angles].data());
    push(kernels_.rope,
         Rope{data(op.qkv), stride(op.qkv), cosine, sine, plan_.slots.data(), cache_.layer(op.layer), op.heads,
              2 * program_.angles()[op.angles].pairs(), op.halves},
         batch_.size * program_.cache().kv_heads, 8 * width(op.qkv) / program_.cache().kv_heads);
  }

  void bind(const AttentionOp& op) {
    const KvLayer layer = cache_.layer(op.layer);
    const AttentionPlan& plan = attention_plan(op.heads);
    const Attention attention{.q = data(op.qkv),
                              .q_stride = stride(op.qkv),
                              .cache = layer,
                              .heads = op.heads,
                              .scale = 1.0f / std::sqrt(static_cast<float>(layer.head_dim)),
                              .sequences = plan_.sequences.data(),
                              .tasks = plan.tasks.data(),
                              .merges = plan.merges.data(),
                              .partials = reinterpret_cast<float*>(workspace_->partials.data()),
                              .out = data(op.out),
                              .out_stride = stride(op.out)};
    push(kernels_.attention, attention, plan.tasks.size(), plan.task_cost(layer));
    if (!plan.merges.empty()) push(kernels_.attention_merge, attention, plan.merges.size(), 16 * layer.head_dim);
  }

  void bind(const PrefixAttentionOp& op) {
    const auto floats = [](const TensorPtr& tensor) { return static_cast<const Vector&>(*tensor).data(); };
    const std::size_t heads = op.gates->cols, kv_heads = program_.cache().kv_heads, dim = program_.cache().head_dim;
    const std::size_t length = op.keys->cols / (kv_heads * dim);
    const PrefixAttention attention{.q = data(op.qkv),
                                    .q_stride = stride(op.qkv),
                                    .keys = floats(op.keys),
                                    .values = floats(op.values),
                                    .gates = floats(op.gates),
                                    .length = length,
                                    .heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_dim = dim,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                                    .out = data(op.out),
                                    .out_stride = stride(op.out)};
    push(kernels_.prefix_attention, attention, batch_.size * heads, 2 * length * dim * sizeof(float));
  }

  void bind(const SwiGluOp& op) {
    const std::size_t dim = width(op.out);
    push(kernels_.swiglu, SwiGlu{data(op.gate_up), data(op.out), dim, stride(op.gate_up), stride(op.out)},
         rows_of(op.out), 32 * dim);
  }

  void bind(const AddOp& op) {
    const std::size_t dim = width(op.out);
    push(kernels_.add, Add{data(op.x), data(op.y), data(op.out), dim, stride(op.x), stride(op.y), stride(op.out)},
         rows_of(op.out), 12 * dim);
  }

  void bind(const SelectOp& op) {
    const std::size_t dim = width(op.out);
    push(&select, Select{data(op.x), batch_.outputs.data(), data(op.out), dim, stride(op.x), stride(op.out)},
         batch_.outputs.size(), 8 * dim);
  }

  void bind(const GatherOp& op) {
    const std::size_t dim = width(op.out);
    push(&gather, Gather{data(op.x), op.columns->data(), data(op.out), dim, stride(op.x), stride(op.out)},
         rows_of(op.out), 12 * dim);
  }

  // All layers of a model are cut alike; a program that mixes head counts gets a plan for each.
  const AttentionPlan& attention_plan(std::size_t heads) {
    for (const auto& [known, plan] : attention_plans_) {
      if (known == heads) return plan;
    }
    attention_plans_.emplace_back(heads, AttentionPlan(batch_, heads, program_.cache().kv_heads, threads_));
    return attention_plans_.back().second;
  }

  const Kernels& kernels_;
  const unsigned threads_;
  const Program& program_;
  const KvCache& cache_;
  const Batch& batch_;
  const BatchPlan plan_;
  std::deque<std::pair<std::size_t, AttentionPlan>> attention_plans_;  // a deque: steps point into it
  Workspace* workspace_;
  std::vector<float*> values_;
};

}  // namespace

std::size_t matmul_panel_bytes(const Panels& weights, std::size_t tokens) {
  return panel_bytes(weights.type, weights.cols) * (1 + tokens / 8);
}

std::size_t grain(std::size_t unit_bytes) {
  constexpr std::size_t kChunkBytes = 64 << 10;
  return std::max<std::size_t>(1, kChunkBytes / std::max<std::size_t>(1, unit_bytes));
}

void execute(const Kernels& kernels, unsigned threads, const Program& program, const KvCache& cache, const Batch& batch,
             const std::atomic<bool>* cancel, float* result) {
  const std::lock_guard turn(program.running);  // the workspace is the program's
  const Run run(kernels, threads, program, cache, batch, result);
  Pool::instance().run(run.steps(), threads, cancel);
}

}  // namespace cria::cpu
