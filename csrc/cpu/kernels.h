// The kernels of one instruction set, as a table: what the executor calls through.
#pragma once

#include "../cria.h"
#include "add.h"
#include "attention.h"
#include "embed.h"
#include "kv_move.h"
#include "matmul.h"
#include "quantize.h"
#include "rmsnorm.h"
#include "rope.h"
#include "swiglu.h"

namespace cria::cpu {

struct Kernels {
  cria_isa isa;
  void (*embed)(const Embed&, std::size_t, std::size_t);
  void (*rmsnorm)(const RmsNorm&, std::size_t, std::size_t);
  void (*quantize)(const Quantize&, std::size_t, std::size_t);
  void (*matmul_q4)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q8)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_f)(const MatmulF&, std::size_t, std::size_t);
  void (*rope)(const Rope&, std::size_t, std::size_t);
  void (*kv_move)(const KvMove&, std::size_t, std::size_t);
  void (*attention)(const Attention&, std::size_t, std::size_t);
  void (*attention_merge)(const Attention&, std::size_t, std::size_t);
  void (*swiglu)(const SwiGlu&, std::size_t, std::size_t);
  void (*add)(const Add&, std::size_t, std::size_t);

  // The product with quantised weights of that type.
  auto matmul_q(cria_type type) const { return type == CRIA_TYPE_Q4_0 ? matmul_q4 : matmul_q8; }
};

// Whether this processor and operating system run the instruction set.
bool isa_available(cria_isa isa);

// The best one available.
cria_isa best_isa();

// Throws CRIA_ERROR_UNSUPPORTED where the processor lacks `isa`.
const Kernels& kernels(cria_isa isa);

}  // namespace cria::cpu
