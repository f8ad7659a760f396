// How many graphs a program captures: of each bucket of batches one, the second time that one comes, however many
// tokens and blocks its sequences have by then; none where graphs are not wanted (CRIA_CUDA_GRAPHS=0).
#include <string>

#include "../../csrc/cuda/executor.h"
#include "checks.h"
#include "model.h"

namespace cria::cuda::check {
namespace {

constexpr std::size_t kContext = 64;
constexpr int kPrompt = 20, kSteps = 16;  // which take a sequence over the edge of a block

class Captures {
 public:
  Captures(Checks& checks, cria_device_kind device) : checks_(checks), model_(device, kModelTiny, 4, kContext) {}

  void run() {
    // With room for the outputs of all batches to come: values that grow lose the graphs over them.
    expect(0, "prompt", [&] { model_.run(batch(1, kPrompt), Outputs::kAll); });
    expect(0, "first step of 1", [&] { step(1); });
    expect(1, "second step of 1", [&] { step(1); });
    expect(0, "more steps of 1", [&] {
      for (int i = 0; i < kSteps; ++i) step(1);
    });
    expect(0, "first step of 3", [&] { step(3); });
    expect(1, "second step of 3", [&] { step(3); });
    expect(0, "step of 4, in 3's bucket", [&] { step(4); });
    expect(0, "step of 1 again", [&] { step(1); });
    expect(1, "steps on the device", [&] { model_.decode(batch(1, 1), kSteps / 2); });
    expect(0, "more steps on the device", [&] { model_.decode(batch(1, 1), kSteps / 2); });
  }

 private:
  static std::vector<NewTokens> batch(int sequences, int tokens) {
    std::vector<NewTokens> batch;
    for (int s = 0; s < sequences; ++s) batch.push_back({s, std::vector<std::int32_t>(tokens, s)});
    return batch;
  }

  void step(int sequences) { model_.run(batch(sequences, 1), Outputs::kLast); }

  template <class Work>
  void expect(std::size_t with_graphs, const std::string& name, const Work& work) {
    const bool on = captures_graphs;
    const std::size_t before = graphs_captured, expected = on ? with_graphs : 0;
    work();
    const std::size_t captured = graphs_captured - before;
    checks_.same_bits("graphs", name + (on ? ", with graphs" : ", without graphs"), &expected, &captured,
                      sizeof(captured));
  }

  Checks& checks_;
  Model model_;
};

}  // namespace

void check_graphs(Checks& checks, cria_device_kind device) {
  if (!checks.real_shapes) Captures(checks, device).run();
}

}  // namespace cria::cuda::check
