// LLaMA-shaped models of random weights, recorded and run through cria.h alone: the same program on any device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../../csrc/check/handles.h"
#include "../../csrc/cria.h"

namespace cria::cuda::check {

struct ModelShape {
  const char* name;
  std::size_t dim, layers, heads, kv_heads, ffn, vocabulary;

  std::size_t head_dim() const { return dim / heads; }
};

// Llama 2's (Touvron et al. 2023, table 1), and one that the emulation runs in a second: grouped queries, and an ffn
// and a vocabulary that fill no tile of rows.
inline constexpr ModelShape kModel7b{"7b", 4096, 32, 32, 32, 11008, 32000};
inline constexpr ModelShape kModel70b{"70b", 8192, 80, 64, 8, 28672, 32000};
inline constexpr ModelShape kModelTiny{"tiny", 128, 2, 4, 2, 352, 331};

// Bytes of the weights of a model in q4_0, as files hold them; the devices' layouts take no more to speak of.
std::size_t weight_bytes(const ModelShape& shape);

// Throws std::runtime_error with cria's sentence where a call failed.
void require_ok(cria_status status);

// New tokens of a sequence.
struct NewTokens {
  int sequence;
  std::vector<std::int32_t> tokens;
};

enum class Outputs { kAll, kLast };  // logits after every new token, or after the last of each sequence

class Model {
 public:
  // The weights of a shape are the same on every device. Its cache, of f16, has room for `sequences` of `context`
  // tokens, whose blocks lie between one another's.
  Model(cria_device_kind device, const ModelShape& shape, std::size_t sequences, std::size_t context);

  // Gives the cache up for an empty one of that many sequences and tokens of each.
  void reserve(std::size_t sequences, std::size_t context);

  // Runs the program over one batch, which follows on what the sequences had before: [outputs][vocabulary] logits,
  // valid until the next run.
  std::span<const float> run(std::span<const NewTokens> batch, Outputs outputs);

  // `steps` steps in a row, on the device: the likeliest tokens [sequence][step], of which the last has not been run.
  std::vector<std::int32_t> decode(std::span<const NewTokens> batch, std::size_t steps);

  // From here on a sequence counts as `tokens` long, whatever the cache holds.
  const std::vector<std::int32_t>& lengths() const { return lengths_; }
  void set_length(int sequence, std::size_t tokens) { lengths_[sequence] = static_cast<std::int32_t>(tokens); }

  const ModelShape shape;

 private:
  using Device = cria::check::Device;
  using Tensor = cria::check::Tensor;
  using Cache = cria::check::Cache;
  using Program = cria::check::Program;

  struct Batch;

  Batch append(std::span<const NewTokens> added, Outputs outputs, std::size_t room);
  Tensor matrix(std::size_t rows, std::size_t cols);
  Tensor ones();
  cria_value value(cria_rows rows, std::size_t width);
  void record();

  std::size_t sequences_ = 0;
  std::uint64_t seed_ = 0;
  Device device_;
  Cache cache_;
  Program program_;
  std::vector<std::int32_t> lengths_;  // of the sequences, in tokens
  std::vector<float> logits_;
};

}  // namespace cria::cuda::check
