// What libcria_cuda.so gives the core: a device, its memory and its order of work, and the ops. The core loads it at
// run time (csrc/cuda/plugin_library.h), so cria runs where there is no CUDA; libcria_cuda_emulated.so is the same
// sources built for the CPU (emulation/README.md).
//
// No exception and no C++ object crosses: the two are of one version of cria, checked by `version` and `size`, but may
// be built by different compilers. Calls may come from any thread, for one stream one at a time, but for synchronize.
// What they enqueue is of the device that was opened, whatever the thread's current one was; it is that afterwards.
#pragma once

#include <cstddef>
#include <cstdint>

#include "add.h"
#include "attention.h"
#include "embed.h"
#include "kv_move.h"
#include "matmul.h"
#include "prefix_attention.h"
#include "quantize.h"
#include "rmsnorm.h"
#include "rope.h"
#include "sample.h"
#include "select.h"
#include "stream.h"
#include "swiglu.h"

namespace cria::cuda {

// Counted up by whatever changes a struct that crosses.
constexpr std::uint32_t kPluginVersion = 2;

struct DeviceFacts {
  char name[96];
  int major, minor;  // compute capability
  int multiprocessors;
  std::uint64_t memory_bytes, available_bytes;
};

// A captured sequence of work.
using Graph = struct CUgraphExec_st*;

struct Plugin {
  std::uint32_t version, size;

  const char* (*describe)(Status);  // a failure in words, for ever valid

  // The device: the first that the process is shown. Called before everything else.
  Status (*open)(DeviceFacts* facts);
  Status (*facts)(DeviceFacts* facts);

  // Memory, aligned to 256 bytes. A pinned host array is read and written by copies that do not wait for the host.
  Status (*allocate)(void** memory, std::size_t bytes);
  void (*free)(void* memory);
  Status (*allocate_host)(void** memory, std::size_t bytes);
  void (*free_host)(void* memory);

  // The order of work: what is put on a stream runs in that order.
  Status (*create_stream)(Stream* stream);
  void (*destroy_stream)(Stream stream);
  Status (*synchronize)(Stream stream);
  Status (*copy)(void* to, const void* from, std::size_t bytes,
                 Stream stream);  // between device and host, or on either
  Status (*clear)(void* memory, std::size_t bytes, Stream stream);

  // What is put on a stream between begin_capture and end_capture is recorded, not run.
  Status (*begin_capture)(Stream stream);
  Status (*end_capture)(Stream stream, Graph* graph);
  Status (*launch_graph)(Graph graph, Stream stream);
  void (*destroy_graph)(Graph graph);

  // Time on a stream.
  Status (*create_event)(void** event);
  void (*destroy_event)(void* event);
  Status (*record_event)(void* event, Stream stream);
  Status (*milliseconds)(void* first, void* last, float* elapsed);  // waits for `last`

  // The ops.
  Status (*embed)(const Embed&, Stream);
  Status (*rmsnorm)(const RmsNorm&, Stream);
  Status (*quantize)(const Quantize&, Stream);
  Status (*matmul_q)(const MatmulQ&, Stream);
  Status (*matmul_f)(const MatmulF&, Stream);
  Status (*rope_angles)(const RopeAngles&, Stream);
  Status (*rope)(const Rope&, Stream);
  Status (*kv_move)(const KvMove&, Stream);
  int (*attention_queries)(int group, bool split);
  Status (*attention)(const Attention&, Stream);
  Status (*attention_merge)(const Attention&, Stream);
  Status (*prefix_attention)(const PrefixAttention&, Stream);
  Status (*swiglu)(const SwiGlu&, Stream);
  Status (*add)(const Add&, Stream);
  Status (*select)(const Select&, Stream);
  Status (*top_k)(const TopK&, Stream);
  Status (*sample)(const Sample&, Stream);
  Status (*advance)(const Advance&, Stream);
};

// Of all structs that cross: what a plugin of other ones differs in, though nobody counted the version up.
template <class... Structs>
constexpr std::uint32_t sizes_of() {
  return (0u + ... + static_cast<std::uint32_t>(sizeof(Structs)));
}
constexpr std::uint32_t kPluginSize =
    sizes_of<Plugin, DeviceFacts, Embed, RmsNorm, Quantize, MatmulQ, MatmulF, RopeAngles, Rope, KvMove, Attention,
             AttentionTile, PrefixAttention, SwiGlu, Add, Select, TopK, Sample, Sampling, Candidate, Advance,
             BatchSequence>();

}  // namespace cria::cuda

// The plugin's one export.
extern "C" __attribute__((visibility("default"))) const cria::cuda::Plugin* cria_cuda_plugin();
