// Tokens a second of whole models of random weights, through cria.h: what a caller gets, the copies to the host
// included.
#include <chrono>

#include "../../../csrc/cuda/executor.h"
#include "../model.h"
#include "timer.h"
#include "timings.h"

namespace cria::cuda::check {
namespace {

constexpr std::size_t kContext = 128;  // tokens before the first decode step
constexpr int kSteps = 32, kSamples = 5;

// Weights that every token meets, which is all but the embedding.
double weights_of(const ModelShape& shape) {
  const double embedding = static_cast<double>(shape.vocabulary) * shape.dim;
  return weight_bytes(shape) / 18.0 * 32.0 - embedding;
}

// Of keys and values of one token, in f16.
double cache_bytes(const ModelShape& shape) { return 4.0 * shape.layers * shape.kv_heads * shape.head_dim(); }

class Throughput {
 public:
  Throughput(Report& report, const ModelShape& shape)
      : report_(report), shape_(shape), model_(CRIA_DEVICE_CUDA, shape, 1, kContext) {}

  // Of steps in a row, whose tokens stay on the device.
  void decode(int sequences, bool graphs) {
    model_.reserve(sequences, kContext + kSteps);
    std::vector<NewTokens> batch;
    for (int s = 0; s < sequences; ++s) batch.push_back({s, {s}});
    std::vector<double> micros = run(kSamples, graphs, kContext, [&] { model_.decode(batch, kSteps); });
    for (double& time : micros) time /= kSteps;
    const double weights = weights_of(shape_), past = kContext + 0.5 * kSteps;
    const Work work{weights / 32.0 * 18.0 + sequences * past * cache_bytes(shape_), 2.0 * weights * sequences};
    add("decode", sequences, micros, work,
        {{"context", std::to_string(kContext)}, {"sequences", std::to_string(sequences)}}, graphs,
        "weights, and keys and values of all sequences, read once a step, or 2 operations a weight and token at the "
        "bf16 peak of the tensor cores");
  }

  void prefill(int tokens, bool graphs) {
    model_.reserve(1, tokens);
    NewTokens prompt{0, std::vector<std::int32_t>(tokens)};
    for (int i = 0; i < tokens; ++i) prompt.tokens[i] = i % static_cast<int>(shape_.vocabulary);
    const std::vector<double> micros = run(kSamples, graphs, 0, [&] { model_.run({&prompt, 1}, Outputs::kLast); });
    // The output is of one token; that the last layer's products behind attention are, too, is left out.
    const double output = static_cast<double>(shape_.vocabulary) * shape_.dim, weights = weights_of(shape_);
    const double pairs = 0.5 * tokens * (tokens + 1.0);
    const Work work{weights / 32.0 * 18.0,
                    2.0 * ((weights - output) * tokens + output) + 4.0 * pairs * shape_.dim * shape_.layers};
    add("prefill", tokens, micros, work, {{"prompt", std::to_string(tokens)}}, graphs,
        "2 operations a weight and token, and those of causal attention, at the bf16 peak of the tensor cores");
  }

 private:
  // Microseconds of each run, from sequences of `length` tokens on; one before them captures the graphs.
  template <class Step>
  std::vector<double> run(int samples, bool graphs, std::size_t length, const Step& step) {
    captures_graphs = graphs;
    std::vector<double> micros;
    for (int i = -1; i < samples; ++i) {
      for (std::size_t s = 0; s < model_.lengths().size(); ++s) model_.set_length(static_cast<int>(s), length);
      const auto begin = std::chrono::steady_clock::now();
      step();
      const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
      if (i >= 0) micros.push_back(time.count());
    }
    return micros;
  }

  void add(const char* name, int tokens, const std::vector<double>& micros, const Work& work,
           std::vector<std::pair<std::string, std::string>> at, bool graphs, const char* model) {
    const Time time = time_of(micros);
    at.insert(at.begin(), {{"model", shape_.name}, {"format", "q4_0"}});
    at.emplace_back("layers", std::to_string(shape_.layers));
    at.emplace_back("graphs", graphs ? "on" : "off");
    report_.timings.push_back({name, at, time.micros, tokens / time.micros * 1e6, "tok/s",
                               tokens / least_seconds(work, report_.limits), time.spread, time.samples, work.bytes,
                               work.operations, model});
    print_timing(report_.timings.back());
  }

  Report& report_;
  const ModelShape shape_;
  Model model_;
};

}  // namespace

void time_models(Report& report) {
  for (ModelShape shape : {kModel7b, kModel70b}) {
    // A tenth beside the weights for the cache and the activations.
    while (shape.layers > 1 && 1.1 * weight_bytes(shape) > report.device.available_bytes) --shape.layers;
    Throughput throughput(report, shape);
    for (const bool graphs : {true, false}) {
      for (const int sequences : {1, 8, 64}) throughput.decode(sequences, graphs);
      for (const int tokens : {512, 4096}) throughput.prefill(tokens, graphs);
    }
  }
}

}  // namespace cria::cuda::check
