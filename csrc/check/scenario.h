// All that cria.h offers, on small shapes, with results that are the same each time: what the checks of this folder
// repeat, from many threads at once and with allocations that fail.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "handles.h"

namespace cria::check {

// Large enough for the pool to share the widest product among threads (512 KiB of weights), small enough for thousands
// of runs under a sanitizer.
constexpr std::size_t kVocabulary = 512, kDim = 256, kHidden = 64;
constexpr std::size_t kHeads = 8, kKvHeads = 4, kHeadDim = 32, kLayers = 2;
constexpr std::size_t kPrompt = 20, kSteps = 3;
constexpr std::size_t kBlocks = 2;  // that a prompt and its steps take

constexpr cria_cache_options kCache{.struct_size = sizeof(cria_cache_options),
                                    .key_type = CRIA_TYPE_F16,
                                    .value_type = CRIA_TYPE_Q8_0,
                                    .layers = kLayers,
                                    .kv_heads = kKvHeads,
                                    .head_dim = kHeadDim,
                                    .blocks = kBlocks};

using Logits = std::array<float, kVocabulary>;
using Tokens = std::array<std::int32_t, kSteps>;

Device open_device(cria_device_kind kind, cria_isa isa, std::uint32_t threads);
Cache make_cache(cria_device* device, std::size_t blocks);

// A transformer of two layers, which share random weights of every type.
struct Model {
  explicit Model(cria_device* device);

  // The logits after a prompt, which is written to the cache's blocks [first, first + kBlocks).
  void run(cria_cache* cache, std::int32_t first, cria_cancel* cancel, Logits& logits) const;
  // The tokens drawn after that prompt's last, once its other tokens are in the cache.
  void decode(cria_cache* cache, std::int32_t first, cria_cancel* cancel, Tokens& tokens) const;

  Tensor table, norm, qkv, output, gate_up, down, head;
  Program program;

 private:
  void record() const;
};

// The blocks of that prompt read, moved by a token and back, and written as they were.
void use_cache(cria_cache* cache, std::int32_t first);

// Each single kernel; returns a digest of what they gave.
std::uint64_t use_kernels(cria_device* device);

// Where the checks keep a file: f32 rows of a matrix of kVocabulary x kDim, and the same matrix as it is packed.
struct WeightsFile {
  WeightsFile();
  ~WeightsFile();
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  static constexpr std::uint64_t kPackedAt = kVocabulary * kDim * sizeof(float);
  char path[64];
};

// The file's matrix packed and, on a CPU, mapped and read too.
void use_file(cria_device* device, cria_device_kind kind, cria_file* file);

// Calls that must fail, with their own sentences.
void use_wrongly(cria_device* device);

// A device opened, all of the above done with it, and everything freed. Returns a digest of the results. Throws
// Failure.
std::uint64_t everything(cria_device_kind kind, cria_isa isa, std::uint32_t threads, const WeightsFile& file);

}  // namespace cria::check
