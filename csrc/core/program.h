// A forward pass as a list of ops over named values: recorded once, run by a backend over any batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "../cria.h"
#include "cache.h"
#include "finish.h"
#include "prefix.h"
#include "rope.h"
#include "tensor.h"

namespace cria {

using TensorPtr = std::shared_ptr<const Tensor>;

struct Value {
  cria_rows rows;
  std::size_t width;
};

// The ops, as cria.h describes them.
// clang-format off
struct EmbedOp     { TensorPtr table; cria_value out; };
struct RmsNormOp   { cria_value x; TensorPtr weight; float eps; cria_value out; };
struct QuantizeOp  { cria_value x; };  // into the one place for quantised rows, for the products that follow
struct MatmulOp    { cria_value x; TensorPtr weight; cria_value out; std::size_t column; Finish finish; };
struct RopeOp      { cria_value qkv; std::size_t layer, heads, angles; bool halves; };
struct AttentionOp { cria_value qkv; std::size_t layer, heads; cria_value out; };
struct PrefixAttentionOp { cria_value qkv; TensorPtr keys, values, gates; cria_value out; };
struct SwiGluOp    { cria_value gate_up, out; };
struct AddOp       { cria_value x, y, out; };
struct SelectOp    { cria_value x, out; };
struct GatherOp    { cria_value x; std::shared_ptr<const std::vector<std::int32_t>> columns; cria_value out; };
// clang-format on

using Op = std::variant<EmbedOp, RmsNormOp, QuantizeOp, MatmulOp, RopeOp, AttentionOp, PrefixAttentionOp, SwiGluOp,
                        AddOp, SelectOp, GatherOp>;

// Recording checks shapes; a program that could be recorded can be run.
class Program {
 public:
  explicit Program(const CacheShape& cache) : cache_(cache) {}

  cria_value value(cria_rows rows, std::size_t width);
  void embed(TensorPtr table, cria_value out);
  void rmsnorm(cria_value x, TensorPtr weight, float eps, cria_value out);
  void matmul(cria_value x, TensorPtr weight, cria_value out, std::size_t column);
  void matmul_add(cria_value x, TensorPtr weight, cria_value out);
  void matmul_swiglu(cria_value x, TensorPtr weight, cria_value out);
  void rope(cria_value qkv, std::size_t layer, const cria_rope_options& options);
  void attention(cria_value qkv, std::size_t layer, std::size_t heads, cria_value out);
  void prefix_attention(cria_value qkv, TensorPtr keys, TensorPtr values, TensorPtr gates, cria_value out);
  void swiglu(cria_value gate_up, cria_value out);
  void add(cria_value x, cria_value y, cria_value out);
  void select(cria_value x, cria_value out);
  void gather(cria_value x, std::span<const std::int32_t> columns, cria_value out);
  void finish(cria_value result);

  bool finished() const { return result_.has_value(); }
  cria_value result() const { return *result_; }
  const CacheShape& cache() const { return cache_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Op>& ops() const { return ops_; }
  const std::vector<RopeAngles>& angles() const { return angles_; }
  std::size_t quantised_width() const { return quantised_width_; }  // of the widest row to quantise; 0: none
  std::size_t vocabulary() const { return vocabulary_; }            // ids below it are in every table; 0: none is read

  // What a backend keeps between runs of this program, and the lock that it holds while a run uses it.
  mutable std::shared_ptr<void> workspace;
  mutable std::mutex running;

 private:
  const Value& checked(cria_value value, const char* name) const;
  void check_width(cria_value value, std::size_t width, const char* name) const;
  void check_same_rows(cria_value a, cria_value b, const char* name) const;
  void check_layer(std::size_t layer) const;
  void require_recording() const;
  void record(Op op, cria_value written);
  void record_product(cria_value x, TensorPtr weight, cria_value out, std::size_t column, Finish finish);

  CacheShape cache_;
  std::vector<Value> values_;
  std::vector<Op> ops_;
  std::vector<RopeAngles> angles_;
  std::optional<cria_value> result_;
  std::optional<cria_value> quantised_;  // the value that the quantised rows were made from, while it stands
  std::size_t quantised_width_ = 0;
  std::size_t vocabulary_ = 0;
};

// Throws CRIA_ERROR_ARGUMENT where query heads do not share kv heads evenly. With the bounds on the cache's shape, no
// width made of heads overflows.
void check_heads(std::size_t heads, std::size_t kv_heads);

// Throws CRIA_ERROR_ARGUMENT where RoPE's options do not fit a cache of that shape.
void check_rope(const cria_rope_options& options, std::size_t kv_heads, std::size_t head_dim);

}  // namespace cria
