#include "executor.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <variant>

#include "../core/checked.h"
#include "../core/weights.h"
#include "plan.h"
#include "tensor.h"
#include "workspace.h"

namespace cria::cuda {
namespace {

// The query heads of the program's attention; a program that mixes numbers of them is cut for the most.
std::size_t attention_heads(const Program& program) {
  std::size_t heads = 0;
  for (const Op& op : program.ops()) {
    if (const auto* attention = std::get_if<AttentionOp>(&op)) heads = std::max(heads, attention->heads);
  }
  return heads;
}

AttentionTiles tiles_for(const Plugin& plugin, const Program& program, const Batch& batch, std::size_t growth) {
  const std::size_t kv_heads = program.cache().kv_heads;
  const int group = static_cast<int>(std::max<std::size_t>(1, attention_heads(program) / kv_heads));
  return AttentionTiles(batch, static_cast<std::size_t>(plugin.attention_queries(group, false)),
                        static_cast<std::size_t>(plugin.attention_queries(group, true)), growth);
}

// Whether the value that op `index` writes is read, as floats, before it is written again.
bool read_as_floats(const Program& program, std::size_t index, cria_value value) {
  const auto reads = [&](const Op& op) {
    return std::visit(
        [&](const auto& o) {
          using O = std::decay_t<decltype(o)>;
          if constexpr (std::is_same_v<O, MatmulOp>) {
            return (o.x == value && !is_quantised(o.weight->type)) || (o.out == value && o.finish == Finish::kAdd);
          } else if constexpr (std::is_same_v<O, RopeOp> || std::is_same_v<O, AttentionOp>) {
            return o.qkv == value;
          } else if constexpr (std::is_same_v<O, PrefixAttentionOp>) {
            return o.qkv == value || o.out == value;
          } else if constexpr (std::is_same_v<O, SwiGluOp>) {
            return o.gate_up == value;
          } else if constexpr (std::is_same_v<O, AddOp>) {
            return o.x == value || o.y == value;
          } else if constexpr (std::is_same_v<O, EmbedOp>) {
            return false;
          } else {
            return o.x == value;
          }
        },
        op);
  };
  // A product may write a part of its value.
  const auto writes = [&](const Op& op) {
    return std::visit(
        [&](const auto& o) {
          if constexpr (requires { o.out; }) return o.out == value && !std::holds_alternative<MatmulOp>(op);
          return false;
        },
        op);
  };
  for (std::size_t i = index + 1; i < program.ops().size(); ++i) {
    if (reads(program.ops()[i])) return true;
    if (writes(program.ops()[i])) return false;
  }
  return program.result() == value;
}

bool cancelled(const Cancel* cancel) { return cancel != nullptr && cancel->load(std::memory_order_relaxed); }

class Run {
 public:
  // Each sequence may grow by `growth` tokens while the run moves it on.
  Run(const DevicePtr& device, const Program& program, const KvCache& cache, const Batch& batch, std::size_t growth)
      : device_(*device),
        program_(program),
        cache_(cache),
        tiles_(tiles_for(device->plugin, program, batch, growth)),
        plan_(batch, tiles_),
        output_count_(batch.outputs.size()) {
    if (program.workspace == nullptr) program.workspace = std::make_shared<Workspace>(device, program);
    workspace_ = static_cast<Workspace*>(program.workspace.get());
    const Capacities& room = plan_.capacities();
    const std::size_t partials =
        checked_product({room.splits, room.split_queries, attention_heads(program), 2 + program.cache().head_dim});
    workspace_->reserve(program, plan_, partials);
    base_ = workspace_->batch.data<std::int32_t>();
  }

  // Everything from the batch to the result. While it waits, others have their turn.
  void operator()(Turn& turn, const Cancel* cancel, float* result) {
    if (cancelled(cancel)) return;
    workspace_->host_result.reserve(workspace_->device, result_bytes());
    upload();
    const bool whole = enqueue_graph(0, [this] { enqueue(nullptr); }) || enqueue(cancel);
    auto* out = workspace_->host_result.data<float>();
    if (whole && result_bytes() > 0) device_.copy(out, data(program_.result()), result_bytes());
    device_.synchronize(turn);
    if (whole && result_bytes() > 0) std::memcpy(result, out, result_bytes());
  }

  void decode(Turn& turn, const DecodeOptions& options, const Cancel* cancel, std::int32_t* tokens) {
    const auto kept = static_cast<int>(options.candidates);
    const Rows all = plan_.outputs(base_);
    const std::size_t rows = static_cast<std::size_t>(all.capacity), parts = top_k_parts(int_width(program_.result()));
    workspace_->reserve_decode(rows, options.candidates, parts, options.steps);
    upload();
    auto* sampling = workspace_->host_sampling.data<Sampling>();
    std::transform(options.sampling.begin(), options.sampling.end(), sampling, [](const cria_sampling& how) {
      return Sampling{how.temperature, how.top_p, how.seed};
    });
    device_.copy(workspace_->sampling.data<Sampling>(), sampling, options.sampling.size() * sizeof(Sampling));
    device_.clear(workspace_->step.data<std::int32_t>(), sizeof(std::int32_t));
    for (std::size_t step = 0; step < options.steps; ++step) {
      if (step % kStepsAhead == 0) device_.synchronize(turn);
      if (cancelled(cancel)) return device_.synchronize(turn);
      const auto enqueue_step = [&] {
        enqueue(nullptr);
        enqueue_sampling(all, kept);
      };
      if (!enqueue_graph(options.candidates, enqueue_step)) enqueue_step();
    }
    std::vector<std::int32_t> history(options.steps * rows);
    device_.synchronize(turn);
    device_.copy(history.data(), workspace_->history.data<std::int32_t>(), history.size() * sizeof(std::int32_t));
    device_.synchronize();
    for (std::size_t i = 0; i < output_count_; ++i) {
      for (std::size_t step = 0; step < options.steps; ++step) {
        tokens[i * options.steps + step] = history[step * rows + i];
      }
    }
  }

 private:
  std::size_t result_bytes() const { return checked_product({output_count_, width(program_.result()), sizeof(float)}); }

  // Steps that are on their way at once: enough that the device never waits for the host, few enough that a signal is
  // heard within a tenth of a second at 7B's speed.
  static constexpr std::size_t kStepsAhead = 64;

  void upload() {
    auto* host = workspace_->host_batch.data<std::int32_t>();
    plan_.write(host);
    device_.copy(base_, host, plan_.bytes());
  }

  // False where there is no graph of the work yet, which `enqueue` would put on the stream.
  template <class Enqueue>
  bool enqueue_graph(std::size_t candidates, const Enqueue& enqueue) {
    if (!captures_graphs) return false;
    device_.require_healthy();
    const auto capture = [&] {
      ++graphs_captured;
      enqueue();
    };
    const Graph graph =
        workspace_->graphs.find_or_capture(GraphKey{cache_.id, plan_.capacities(), candidates}, capture);
    if (graph == nullptr) return false;
    device_.check(device_.plugin.launch_graph(graph, device_.stream), "a graph");
    return true;
  }

  // From the logits to the next step's tokens.
  void enqueue_sampling(const Rows& rows, int kept) {
    auto* candidates = workspace_->candidates.data<Candidate>();
    auto* sampled = workspace_->sampled.data<std::int32_t>();
    device_.launch(device_.plugin.top_k,
                   TopK{data(program_.result()), int_width(program_.result()), kept, rows,
                        workspace_->partial_candidates.data<Candidate>(), candidates},
                   "top_k");
    device_.launch(
        device_.plugin.sample,
        Sample{candidates, kept, workspace_->sampling.data<Sampling>(), plan_.moving_positions(base_), rows, sampled},
        "sample");
    device_.launch(
        device_.plugin.advance,
        Advance{sampled, plan_.moving_tokens(base_), plan_.moving_positions(base_), plan_.moving_sequences(base_),
                workspace_->step.data<std::int32_t>(), workspace_->history.data<std::int32_t>(), rows},
        "advance");
  }

  // Puts the ops on the stream; false where the run was cancelled before the last.
  bool enqueue(const Cancel* cancel) {
    for (std::size_t i = 0; i < program_.angles().size(); ++i) enqueue_angles(i);
    const std::vector<Op>& ops = program_.ops();
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (cancelled(cancel)) return false;
      const auto* norm = std::get_if<RmsNormOp>(&ops[i]);
      const auto* attention = std::get_if<AttentionOp>(&ops[i]);
      const auto* quantize = i + 1 < ops.size() ? std::get_if<QuantizeOp>(&ops[i + 1]) : nullptr;
      if (norm != nullptr && quantize != nullptr && quantize->x == norm->out) {
        enqueue_norm(*norm, read_as_floats(program_, i + 1, norm->out) ? data(norm->out) : nullptr,
                     quantised(norm->out));
        ++i;
      } else if (attention != nullptr && quantize != nullptr && quantize->x == attention->out &&
                 merge_quantizes_all(*attention)) {
        enqueue_attention(*attention, quantised(attention->out));
        ++i;
      } else {
        std::visit([this](const auto& op) { enqueue(op); }, ops[i]);
      }
    }
    return true;
  }

  std::size_t width(cria_value value) const { return program_.values()[static_cast<std::size_t>(value)].width; }
  int int_width(cria_value value) const { return static_cast<int>(width(value)); }
  float* data(cria_value value) const {
    return workspace_->values[static_cast<std::size_t>(value)].template data<float>();
  }
  Rows rows(cria_value value) const {
    const bool tokens = program_.values()[static_cast<std::size_t>(value)].rows == CRIA_ROWS_TOKENS;
    return tokens ? plan_.tokens(base_) : plan_.outputs(base_);
  }
  // A value's rows, quantised: each op uses the one place at its own width and capacity.
  QuantRows quantised(cria_value x) const {
    return {workspace_->quants.data<std::int8_t>(), workspace_->scales.data<float>(), rows(x).capacity};
  }
  static Weights weights(const TensorPtr& tensor) { return static_cast<const Matrix&>(*tensor).weights(); }

  void enqueue_angles(std::size_t i) {
    const cria::RopeAngles& angles = program_.angles()[i];
    device_.launch(device_.plugin.rope_angles,
                   RopeAngles{plan_.batch(base_), plan_.tokens(base_), workspace_->frequencies[i].data<double>(),
                              static_cast<int>(angles.pairs()), angles.magnitude, workspace_->cosines[i].data<float>(),
                              workspace_->sines[i].data<float>()},
                   "rope_angles");
  }

  void enqueue_norm(const RmsNormOp& op, float* out, const QuantRows& quants) {
    const float* weight = static_cast<const Vector&>(*op.weight).data();
    device_.launch(device_.plugin.rmsnorm,
                   RmsNorm{data(op.x), weight, out, quants, rows(op.x), int_width(op.x), op.eps}, "rmsnorm");
  }

  void enqueue(const EmbedOp& op) {
    device_.launch(device_.plugin.embed, Embed{weights(op.table), plan_.token_ids(base_), rows(op.out), data(op.out)},
                   "embed");
  }
  void enqueue(const RmsNormOp& op) { enqueue_norm(op, data(op.out), {}); }
  void enqueue(const QuantizeOp& op) {
    device_.launch(device_.plugin.quantize, Quantize{data(op.x), quantised(op.x), rows(op.x), int_width(op.x)},
                   "quantize");
  }
  void enqueue(const MatmulOp& op) {
    const MatmulOut out{data(op.out) + op.column, static_cast<std::int64_t>(width(op.out)), op.finish};
    if (is_quantised(op.weight->type)) {
      device_.launch(device_.plugin.matmul_q, MatmulQ{weights(op.weight), quantised(op.x), rows(op.x), out},
                     "matmul_q");
    } else {
      device_.launch(device_.plugin.matmul_f, MatmulF{weights(op.weight), data(op.x), rows(op.x), out}, "matmul_f");
    }
  }
  void enqueue(const RopeOp& op) {
    device_.launch(
        device_.plugin.rope,
        Rope{data(op.qkv), workspace_->cosines[op.angles].data<float>(), workspace_->sines[op.angles].data<float>(),
             plan_.batch(base_), plan_.tokens(base_), cache_.layer(op.layer), static_cast<int>(op.heads),
             static_cast<int>(2 * program_.angles()[op.angles].pairs()), op.halves},
        "rope");
  }
  // Whether every row passes through attention_merge, and it can quantise them.
  bool merge_quantizes_all(const AttentionOp& op) const {
    return plan_.capacities().whole_tiles == 0 && merge_quantizes(op.heads, program_.cache().head_dim);
  }

  void enqueue(const AttentionOp& op) { enqueue_attention(op, {}); }
  void enqueue_attention(const AttentionOp& op, const QuantRows& quants) {
    Attention attention{.q = data(op.qkv),
                        .q_stride = static_cast<std::int64_t>(width(op.qkv)),
                        .cache = cache_.layer(op.layer),
                        .batch = plan_.batch(base_),
                        .tiles = plan_.whole_tiles(base_),
                        .tile_rows = plan_.whole_tile_rows(base_),
                        .heads = static_cast<int>(op.heads),
                        .scale = 1.0f / std::sqrt(static_cast<float>(program_.cache().head_dim)),
                        .splits = 0,
                        .partials = workspace_->partials.data<float>(),
                        .partial_rows = static_cast<int>(plan_.capacities().split_queries),
                        .out = data(op.out),
                        .quants = quants};
    if (plan_.capacities().whole_tiles > 0) device_.launch(device_.plugin.attention, attention, "attention");
    if (plan_.capacities().split_tiles == 0) return;
    attention.tiles = plan_.split_tiles(base_);
    attention.tile_rows = plan_.split_tile_rows(base_);
    attention.splits = static_cast<int>(plan_.capacities().splits);
    device_.launch(device_.plugin.attention, attention, "attention");
    device_.launch(device_.plugin.attention_merge, attention, "attention_merge");
  }
  void enqueue(const PrefixAttentionOp& op) {
    const auto floats = [](const TensorPtr& tensor) { return static_cast<const Vector&>(*tensor).data(); };
    const auto kv_heads = static_cast<int>(program_.cache().kv_heads);
    const auto head_dim = static_cast<int>(program_.cache().head_dim);
    device_.launch(device_.plugin.prefix_attention,
                   PrefixAttention{.q = data(op.qkv),
                                   .q_stride = static_cast<std::int64_t>(width(op.qkv)),
                                   .keys = floats(op.keys),
                                   .values = floats(op.values),
                                   .gates = floats(op.gates),
                                   .length = static_cast<int>(op.keys->cols) / (kv_heads * head_dim),
                                   .heads = static_cast<int>(op.gates->cols),
                                   .kv_heads = kv_heads,
                                   .head_dim = head_dim,
                                   .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                                   .out = data(op.out),
                                   .rows = rows(op.out)},
                   "prefix_attention");
  }
  void enqueue(const SwiGluOp& op) {
    device_.launch(device_.plugin.swiglu, SwiGlu{data(op.gate_up), data(op.out), rows(op.out), int_width(op.out)},
                   "swiglu");
  }
  void enqueue(const AddOp& op) {
    device_.launch(device_.plugin.add, Add{data(op.x), data(op.y), data(op.out), rows(op.out), int_width(op.out)},
                   "add");
  }
  void enqueue(const SelectOp& op) {
    device_.launch(device_.plugin.select,
                   Select{data(op.x), plan_.output_rows(base_), data(op.out), rows(op.out), int_width(op.out)},
                   "select");
  }
  void enqueue(const GatherOp&) {
    throw Error(CRIA_ERROR_INTERNAL, "gather: is recorded for the CPU alone");  // cria_program_gather
  }

  Device& device_;
  const Program& program_;
  const KvCache& cache_;
  const AttentionTiles tiles_;
  const BatchPlan plan_;
  const std::size_t output_count_;
  Workspace* workspace_;
  std::int32_t* base_;  // of the batch on the device
};

// Runs `work` with the program's workspace and the device its own. What fails in its middle has work on the stream that
// reads the workspace's host arrays, and the next run writes them.
template <class Work>
void in_turn(const DevicePtr& device, const Program& program, const Work& work) {
  const std::lock_guard workspace(program.running);
  Turn turn(device->turn);
  try {
    work(turn);
  } catch (...) {
    device->plugin.synchronize(device->stream);
    throw;
  }
}

bool graphs_wanted() {
  const char* wish = std::getenv("CRIA_CUDA_GRAPHS");
  return wish == nullptr || std::string_view(wish) != "0";
}

}  // namespace

// Read as the library is loaded, and not by each run: a run is on a thread of its own, and may read the environment
// while JavaScript writes it.
std::atomic<bool> captures_graphs{graphs_wanted()};
std::atomic<std::size_t> graphs_captured{0};

void execute(const DevicePtr& device, const Program& program, const KvCache& cache, const Batch& batch,
             const Cancel* cancel, float* result) {
  if (batch.size == 0) return;
  in_turn(device, program, [&](Turn& turn) { Run(device, program, cache, batch, /*growth=*/0)(turn, cancel, result); });
}

void decode(const DevicePtr& device, const Program& program, const KvCache& cache, const Batch& batch,
            const DecodeOptions& options, const Cancel* cancel, std::int32_t* tokens) {
  in_turn(device, program, [&](Turn& turn) {
    Run(device, program, cache, batch, options.steps - 1).decode(turn, options, cancel, tokens);
  });
}

}  // namespace cria::cuda
