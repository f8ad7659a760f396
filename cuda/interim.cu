// While the kernels are being written: every op that is not there yet fails. Deleted with the last of them.
#include "plugin.h"
namespace cria::cuda {
#define WEAK __attribute__((weak))
constexpr Status kNotThere = 801;  // cudaErrorNotSupported
WEAK Status embed(const Embed&, Stream) { return kNotThere; }
WEAK Status rmsnorm(const RmsNorm&, Stream) { return kNotThere; }
WEAK Status quantize(const Quantize&, Stream) { return kNotThere; }
WEAK Status matmul_q(const MatmulQ&, Stream) { return kNotThere; }
WEAK Status matmul_f(const MatmulF&, Stream) { return kNotThere; }
WEAK Status rope_angles(const RopeAngles&, Stream) { return kNotThere; }
WEAK Status rope(const Rope&, Stream) { return kNotThere; }
WEAK Status kv_move(const KvMove&, Stream) { return kNotThere; }
WEAK int attention_queries(int, bool) { return 1; }
WEAK Status attention(const Attention&, Stream) { return kNotThere; }
WEAK Status attention_merge(const Attention&, Stream) { return kNotThere; }
WEAK Status swiglu(const SwiGlu&, Stream) { return kNotThere; }
WEAK Status add(const Add&, Stream) { return kNotThere; }
WEAK Status select(const Select&, Stream) { return kNotThere; }
WEAK Status top_k(const TopK&, Stream) { return kNotThere; }
WEAK Status sample(const Sample&, Stream) { return kNotThere; }
WEAK Status advance(const Advance&, Stream) { return kNotThere; }
}  // namespace cria::cuda
