// Runs a program over a batch: binds each op to its kernel, its operands and its slices, and hands the list to the
// pool.
#pragma once

#include <atomic>

#include "../core/batch.h"
#include "../core/program.h"
#include "cache.h"
#include "kernels.h"

namespace cria::cpu {

void execute(const Kernels& kernels, unsigned threads, const Program& program, const KvCache& cache, const Batch& batch,
             const std::atomic<bool>* cancel, float* result);

// How many units the smallest chunks of a step hold: some 64 KiB, two to three microseconds of one core, beside which
// taking a chunk and starting on its memory cost little.
std::size_t grain(std::size_t unit_bytes);

// What a panel's product with `tokens` tokens costs, in bytes read: from about 8 tokens on arithmetic costs more than
// the weights' bytes.
std::size_t matmul_panel_bytes(const Panels& weights, std::size_t tokens);

}  // namespace cria::cpu
