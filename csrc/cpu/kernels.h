// The kernels of one instruction set, as a table: what the executor calls through.
#pragma once

#include "../cria.h"
#include "add.h"
#include "attention.h"
#include "embed.h"
#include "kv_move.h"
#include "matmul.h"
#include "prefix_attention.h"
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
  void (*matmul_q4_1)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q5_0)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q5_1)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q2_k)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q3_k)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q4_k)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q5_k)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q6_k)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_iq4_nl)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_q4_z)(const MatmulQ&, std::size_t, std::size_t);
  void (*matmul_f)(const MatmulF&, std::size_t, std::size_t);
  void (*rope)(const Rope&, std::size_t, std::size_t);
  void (*kv_move)(const KvMove&, std::size_t, std::size_t);
  void (*attention)(const Attention&, std::size_t, std::size_t);
  void (*attention_merge)(const Attention&, std::size_t, std::size_t);
  void (*prefix_attention)(const PrefixAttention&, std::size_t, std::size_t);
  void (*swiglu)(const SwiGlu&, std::size_t, std::size_t);
  void (*add)(const Add&, std::size_t, std::size_t);

  // The product with quantised weights of that type.
  auto matmul_q(cria_type type) const {
    switch (type) {
      case CRIA_TYPE_Q4_0:
        return matmul_q4;
      case CRIA_TYPE_Q4_1:
        return matmul_q4_1;
      case CRIA_TYPE_Q5_0:
        return matmul_q5_0;
      case CRIA_TYPE_Q5_1:
        return matmul_q5_1;
      case CRIA_TYPE_Q2_K:
        return matmul_q2_k;
      case CRIA_TYPE_Q3_K:
        return matmul_q3_k;
      case CRIA_TYPE_Q4_K:
        return matmul_q4_k;
      case CRIA_TYPE_Q5_K:
        return matmul_q5_k;
      case CRIA_TYPE_Q6_K:
        return matmul_q6_k;
      case CRIA_TYPE_IQ4_NL:
        return matmul_iq4_nl;
      case CRIA_TYPE_Q4_Z:
        return matmul_q4_z;
      default:
        return matmul_q8;
    }
  }
};

// Whether this processor and operating system run the instruction set.
bool isa_available(cria_isa isa);

// The best one available.
cria_isa best_isa();

// Throws CRIA_ERROR_UNSUPPORTED where the processor lacks `isa`.
const Kernels& kernels(cria_isa isa);

}  // namespace cria::cpu
