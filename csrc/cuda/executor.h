// Runs a program over a batch on a GPU: puts its ops on the stream, or replays them from a captured graph.
#pragma once

#include "../core/backend.h"
#include "cache.h"
#include "device.h"

namespace cria::cuda {

// Whether programs are captured as graphs. CRIA_CUDA_GRAPHS=0, where the library is loaded, says no; who compares the
// two in one process sets it between runs.
extern std::atomic<bool> captures_graphs;

// Graphs that all programs have captured so far. Within a bucket of batches it stands still.
extern std::atomic<std::size_t> graphs_captured;

// Where `cancel`, which may be null, is set before an op is put on the stream, it returns early. What is on the stream
// already runs to its end.
void execute(const DevicePtr& device, const Program& program, const KvCache& cache, const Batch& batch,
             const Cancel* cancel, float* result);

// The steps of a decode, put on the stream one behind the other: a step's tokens never leave the device.
void decode(const DevicePtr& device, const Program& program, const KvCache& cache, const Batch& batch,
            const DecodeOptions& options, const Cancel* cancel, std::int32_t* tokens);

}  // namespace cria::cuda
