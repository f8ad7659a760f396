#include "timings.h"

#include <cmath>
#include <cstdio>
#include <string>

#include "../../../csrc/cuda/pack.h"
#include "../batch.h"
#include "../model.h"
#include "limits.h"
#include "timer.h"

namespace cria::cuda::check {
namespace {

constexpr const char* kModel = "bytes at the read bandwidth, or operations at the tensor cores' bf16 peak, by ";

// What all timings of kernels need.
class Kernels {
 public:
  Kernels(Checks& checks, Report& report) : checks(checks), report_(report), timer_(checks) {}

  Checks& checks;

  using Places = std::vector<std::pair<std::string, std::string>>;

  // One launch of an op, `name` being "op/shape/tokens".
  void time(const std::string& name, const Places& at, const Work& work, int rotation,
            const std::function<void(int)>& launch) {
    const Time time = timer_(rotation, launch);
    const double seconds = time.micros / 1e6, least = least_seconds(work, report_.limits);
    const bool memory = least <= work.bytes / report_.limits.read;
    const double amount = (memory ? work.bytes : work.operations) / 1e9;
    report_.timings.push_back({name, at, time.micros, amount / seconds, memory ? "GB/s" : "GOP/s", amount / least,
                               time.spread, time.samples, work.bytes, work.operations,
                               kModel + report_.limits.instruction});
    print_timing(report_.timings.back());
  }

 private:
  Report& report_;
  Timer timer_;
};

// ---- Products ------------------------------------------------------------------------------------------------------

struct MatrixShape {
  std::string name;
  int rows, cols;
  Finish finish;
};

std::vector<MatrixShape> matrices(const ModelShape& model) {
  const int dim = static_cast<int>(model.dim), ffn = static_cast<int>(model.ffn);
  const int kv = static_cast<int>(model.kv_heads * model.head_dim()), vocabulary = static_cast<int>(model.vocabulary);
  const std::string name = std::string(model.name) + ".";
  return {{name + "qkv", dim + 2 * kv, dim, Finish::kStore},
          {name + "out", dim, dim, Finish::kAdd},
          {name + "gate_up", 2 * ffn, dim, Finish::kSwiGlu},
          {name + "down", dim, ffn, Finish::kAdd},
          {name + "output", vocabulary, dim, Finish::kStore}};
}

// A GEMV, a narrow tile and a GEMM take these.
constexpr int kTokens[] = {1, 2, 4, 8, 16, 512, 4096};

void time_products(Kernels& kernels, const MatrixShape& shape, cria_type type) {
  Checks& checks = kernels.checks;
  const std::size_t quants = quants_bytes(type, shape.rows, shape.cols);
  const std::size_t scales = scales_bytes(type, shape.rows, shape.cols);
  const int rotation = rotation_of(quants + scales);
  const Filled all_quants(checks, rotation * quants), all_scales(checks, rotation * scales + 1);
  const auto weights = [&](int turn) {
    return Weights{type, all_quants.at(turn * quants), all_scales.at<std::uint16_t>(turn * scales), shape.rows,
                   shape.cols};
  };
  const int outputs = shape.finish == Finish::kSwiGlu ? shape.rows / 2 : shape.rows;
  const std::size_t columns = superblocks(shape.cols) * kSuperblock;
  const char* format = weight_format(type).name;
  for (const int tokens : kTokens) {
    const Filled x(checks, tokens * shape.cols * sizeof(float)), x_quants(checks, tokens * columns);
    const Filled x_scales(checks, tokens * columns / kQuantBlock * sizeof(float));
    const Filled out(checks, tokens * outputs * sizeof(float));
    const DeviceRows rows(checks, tokens, tokens);
    const MatmulOut into{out.at<float>(), outputs, shape.finish};
    const QuantRows quant_rows{x_quants.at<std::int8_t>(), x_scales.at<float>(), tokens};
    const double x_bytes = is_quantised(type) ? 1.125 * shape.cols : 4.0 * shape.cols;
    const double out_bytes = (shape.finish == Finish::kAdd ? 8.0 : 4.0) * outputs;
    const Work work{quants + scales + tokens * (x_bytes + out_bytes), 2.0 * shape.rows * shape.cols * tokens};
    const std::string op = is_quantised(type) ? "matmul_q" : "matmul_f", count = std::to_string(tokens);
    kernels.time(
        op + "/" + shape.name + "/" + count, {{"format", format}, {"tokens", count}}, work, rotation, [&](int turn) {
          if (is_quantised(type)) {
            checks.require(checks.plugin.matmul_q({weights(turn), quant_rows, rows, into}, checks.stream), op.c_str());
          } else {
            checks.require(checks.plugin.matmul_f({weights(turn), x.at<float>(), rows, into}, checks.stream),
                           op.c_str());
          }
        });
  }
}

// ---- Attention -----------------------------------------------------------------------------------------------------

// A batch of `sequences`, each of `past` tokens before and `fresh` new ones, over a cache of f16 that is used in turns.
void time_attention(Kernels& kernels, const ModelShape& model, int sequences, int past, int fresh) {
  Checks& checks = kernels.checks;
  const int heads = static_cast<int>(model.heads), kv_heads = static_cast<int>(model.kv_heads);
  const int head_dim = static_cast<int>(model.head_dim()), tokens = sequences * fresh;
  const TestBatch batch(checks, std::vector<Lengths>(sequences, {past, fresh}), tokens);
  const std::size_t side = kv_side_bytes(CRIA_TYPE_F16, head_dim), bytes = batch.block_count * kv_heads * 2 * side;
  const int rotation = rotation_of(bytes);
  const Filled cache(checks, rotation * bytes);

  const bool split = fresh == 1;
  const int queries = checks.plugin.attention_queries(heads / kv_heads, split);
  const int splits = split ? (past + fresh + kKeySplit - 1) / kKeySplit : 0;
  std::vector<AttentionTile> cut;
  for (int sequence = 0; sequence < sequences; ++sequence) {
    for (int query = 0; query < fresh; query += queries) {
      cut.push_back({sequence, query, std::min(query + queries, fresh), sequence * fresh + query});
    }
  }
  const DeviceArray<AttentionTile> tiles(checks, cut);
  const DeviceRows tile_rows(checks, static_cast<int>(cut.size()), static_cast<int>(cut.size()));
  const int width = heads * head_dim;
  const Filled q(checks, std::size_t{4} * tokens * width), out(checks, std::size_t{4} * tokens * width);
  const Filled partials(checks, std::size_t{4} * splits * tokens * heads * (2 + head_dim) + 1);

  // Each query sees its past, the new tokens before it and itself.
  const double pairs = sequences * (double(fresh) * past + 0.5 * fresh * (fresh + 1.0));
  const double kv_bytes = double(sequences) * (past + fresh) * kv_heads * head_dim * 4.0;
  const Work work{kv_bytes + 8.0 * tokens * width, 4.0 * pairs * heads * head_dim};
  const std::string context = std::to_string(past + fresh);
  const char* op = split ? "attention_decode" : "attention";
  kernels.time(std::string(op) + "/" + model.name + "/" + std::to_string(tokens),
               {{"context", context}, {"sequences", std::to_string(sequences)}}, work, rotation, [&](int turn) {
                 const std::uint8_t* base = cache.at(turn * bytes);
                 const Attention attention{
                     .q = q.at<float>(),
                     .q_stride = width,
                     .cache = {{const_cast<std::uint8_t*>(base), CRIA_TYPE_F16},
                               {const_cast<std::uint8_t*>(base) + side, CRIA_TYPE_F16},
                               kv_heads,
                               head_dim,
                               static_cast<std::int64_t>(2 * side)},
                     .batch = batch.device(),
                     .tiles = tiles.data(),
                     .tile_rows = tile_rows,
                     .heads = heads,
                     .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                     .splits = splits,
                     .partials = partials.at<float>(),
                     .partial_rows = tokens,
                     .out = out.at<float>(),
                     .quants = {},
                 };
                 checks.require(checks.plugin.attention(attention, checks.stream), "attention");
                 if (split) checks.require(checks.plugin.attention_merge(attention, checks.stream), "attention_merge");
               });
}

// ---- The small ones ------------------------------------------------------------------------------------------------

// RMSNorm with the quantisation of what it gives, as before the products of q4_0 and q8_0.
void time_rmsnorm(Kernels& kernels, const ModelShape& model, int tokens) {
  Checks& checks = kernels.checks;
  const std::size_t dim = model.dim, bytes = tokens * dim * sizeof(float);
  const int rotation = rotation_of(bytes);
  const Filled x(checks, rotation * bytes), weight(checks, dim * sizeof(float)), quants(checks, tokens * dim);
  const Filled scales(checks, tokens * dim / kQuantBlock * sizeof(float));
  const DeviceRows rows(checks, tokens, tokens);
  const Work work{tokens * dim * (4.0 + 1.125), 4.0 * tokens * dim};
  kernels.time(std::string("rmsnorm/") + model.name + "/" + std::to_string(tokens), {}, work, rotation, [&](int turn) {
    const QuantRows out{quants.at<std::int8_t>(), scales.at<float>(), tokens};
    checks.require(checks.plugin.rmsnorm({x.at<float>(turn * bytes), weight.at<float>(), nullptr, out, rows,
                                          static_cast<int>(dim), 1e-5f},
                                         checks.stream),
                   "rmsnorm");
  });
}

void time_rope(Kernels& kernels, const ModelShape& model, int tokens) {
  Checks& checks = kernels.checks;
  const int heads = static_cast<int>(model.heads), kv_heads = static_cast<int>(model.kv_heads);
  const int head_dim = static_cast<int>(model.head_dim());
  const std::size_t width = (heads + 2 * kv_heads) * head_dim, bytes = tokens * width * sizeof(float);
  const int rotation = rotation_of(bytes);
  const TestBatch batch(checks, {{0, tokens}}, tokens);
  const std::size_t side = kv_side_bytes(CRIA_TYPE_F16, head_dim);
  const Filled qkv(checks, rotation * bytes), cache(checks, batch.block_count * kv_heads * 2 * side);
  const Filled cosine(checks, std::size_t{2} * tokens * head_dim), sine(checks, std::size_t{2} * tokens * head_dim);
  const KvLayer layer{{cache.at(), CRIA_TYPE_F16},
                      {cache.at(side), CRIA_TYPE_F16},
                      kv_heads,
                      head_dim,
                      static_cast<std::int64_t>(2 * side)};
  const double kv = 2.0 * kv_heads * head_dim, q = heads * head_dim;
  const Work work{tokens * (8.0 * q + 6.0 * kv), 3.0 * tokens * (q + kv / 2)};
  kernels.time(std::string("rope/") + model.name + "/" + std::to_string(tokens), {}, work, rotation, [&](int turn) {
    checks.require(checks.plugin.rope({qkv.at<float>(turn * bytes), cosine.at<float>(), sine.at<float>(),
                                       batch.device(), batch.rows(), layer, heads, head_dim, false},
                                      checks.stream),
                   "rope");
  });
}

void time_swiglu(Kernels& kernels, const ModelShape& model, int tokens) {
  Checks& checks = kernels.checks;
  const std::size_t ffn = model.ffn, bytes = 2 * tokens * ffn * sizeof(float);
  const int rotation = rotation_of(bytes);
  const Filled gate_up(checks, rotation * bytes), out(checks, bytes / 2);
  const DeviceRows rows(checks, tokens, tokens);
  const Work work{1.5 * bytes, 10.0 * tokens * ffn};
  kernels.time(std::string("swiglu/") + model.name + "/" + std::to_string(tokens), {}, work, rotation, [&](int turn) {
    checks.require(checks.plugin.swiglu({gate_up.at<float>(turn * bytes), out.at<float>(), rows, static_cast<int>(ffn)},
                                        checks.stream),
                   "swiglu");
  });
}

void time_top_k(Kernels& kernels, const ModelShape& model, int tokens) {
  Checks& checks = kernels.checks;
  const std::size_t bytes = tokens * model.vocabulary * sizeof(float);
  const int rotation = rotation_of(bytes), k = 40, vocabulary = static_cast<int>(model.vocabulary);
  const Filled logits(checks, rotation * bytes), out(checks, tokens * k * sizeof(Candidate));
  const Filled partial(checks, tokens * top_k_parts(vocabulary) * k * sizeof(Candidate));
  const DeviceRows rows(checks, tokens, tokens);
  const Work work{static_cast<double>(bytes), static_cast<double>(tokens * model.vocabulary)};
  kernels.time(std::string("top_k/") + model.name + "/" + std::to_string(tokens), {}, work, rotation, [&](int turn) {
    const TopK top_k{.logits = logits.at<float>(turn * bytes),
                     .vocabulary = vocabulary,
                     .k = k,
                     .rows = rows,
                     .partial = partial.at<Candidate>(),
                     .out = out.at<Candidate>()};
    checks.require(checks.plugin.top_k(top_k, checks.stream), "top_k");
  });
}

void print_limits(const Limits& limits) {
  std::printf("\nread %.0f GB/s, copy %.0f GB/s, by %s: bf16 %.0f TFLOP/s, int8 %.0f TOP/s\n", limits.read / 1e9,
              limits.copy / 1e9, limits.instruction.c_str(), limits.bf16 / 1e12, limits.int8 / 1e12);
}

}  // namespace

double least_seconds(const Work& work, const Limits& limits) {
  return std::fmax(work.bytes / limits.read, work.operations / limits.bf16);
}

Limits measure_limits(Checks& checks, int multiprocessors, bool wgmma) {
  Timer timer(checks);
  constexpr std::size_t kBytes = std::size_t{1} << 30;  // twenty times the L2, each way
  const Filled from(checks, kBytes), to(checks, kBytes);
  const auto sink = to.at<std::uint32_t>();
  const Time copy =
      timer(1, [&](int) { checks.require(checks.plugin.copy(to.at(), from.at(), kBytes, checks.stream), "copy"); });
  const Time read = timer(1, [&](int) {
    checks.require(read_memory(from.at(), kBytes, sink, multiprocessors, checks.stream), "read_memory");
  });
  const Multiplier multiplier = wgmma ? Multiplier::kWgmma : Multiplier::kMmaSync;
  const auto rate = [&](Operands operands) {
    const Time time = timer(1, [&](int) {
      checks.require(multiply(multiplier, operands, sink, multiprocessors, checks.stream), "multiply");
    });
    return multiplied(multiplier, operands, multiprocessors) / time.micros * 1e6;
  };
  return {.read = kBytes / read.micros * 1e6,
          .copy = 2.0 * kBytes / copy.micros * 1e6,
          .bf16 = rate(Operands::kBf16),
          .int8 = rate(Operands::kInt8),
          .instruction = wgmma ? "wgmma" : "mma.sync"};
}

void time_kernels(Checks& checks, Report& report) {
  Kernels kernels(checks, report);
  for (const ModelShape& model : {kModel7b, kModel70b}) {
    for (const cria_type type : {CRIA_TYPE_Q4_0, CRIA_TYPE_Q8_0, CRIA_TYPE_Q4_K, CRIA_TYPE_Q6_K, CRIA_TYPE_F16}) {
      for (const MatrixShape& shape : matrices(model)) time_products(kernels, shape, type);
    }
    for (const int tokens : {512, 4096}) time_attention(kernels, model, 1, 0, tokens);
    for (const int sequences : {1, 8, 64}) time_attention(kernels, model, sequences, 8191, 1);
    for (const int tokens : {1, 64, 4096}) {
      time_rmsnorm(kernels, model, tokens);
      time_rope(kernels, model, tokens);
      time_swiglu(kernels, model, tokens);
    }
    for (const int tokens : {1, 8, 64}) time_top_k(kernels, model, tokens);
  }
}

void measure(const Plugin& plugin, Report& report) {
  Checks checks(plugin, true);
  const DeviceFacts& device = report.device;
  report.cuda = cuda_versions();
  report.limits = measure_limits(checks, device.multiprocessors, device.major == 9 && device.minor == 0);
  print_limits(report.limits);
  time_kernels(checks, report);
  time_models(report);
}

}  // namespace cria::cuda::check
