#include "program.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "error.h"
#include "weights.h"

namespace cria {
void check_heads(std::size_t heads, std::size_t kv_heads) {
  require(heads > 0 && heads <= INT32_MAX && heads % kv_heads == 0, "heads",
          "a multiple of kv_heads " + std::to_string(kv_heads) + ", below 2^31", heads);
}

void check_rope(const cria_rope_options& options, std::size_t kv_heads, std::size_t head_dim) {
  check_rotation(options, head_dim, "options");
  check_heads(options.heads, kv_heads);
}

const Value& Program::checked(cria_value value, const char* name) const {
  const bool known = value >= 0 && static_cast<std::size_t>(value) < values_.size();
  require(known, name, "a value of this program", value);
  return values_[static_cast<std::size_t>(value)];
}

void Program::check_width(cria_value value, std::size_t width, const char* name) const {
  const std::size_t actual = checked(value, name).width;
  require(actual == width, name, std::to_string(width) + " wide", actual);
}

void Program::check_same_rows(cria_value a, cria_value b, const char* name) const {
  if (checked(a, name).rows == checked(b, name).rows) return;
  throw Error(CRIA_ERROR_ARGUMENT,
              std::string(name) + ": must have a row for each token, or for each output, as x has");
}

void Program::check_layer(std::size_t layer) const {
  require(layer < cache_.layers, "layer", "below the cache's " + std::to_string(cache_.layers), layer);
}

void Program::require_recording() const {
  if (finished()) throw Error(CRIA_ERROR_ARGUMENT, "program: must not be finished");
}

void Program::record(Op op, cria_value written) {
  ops_.push_back(std::move(op));
  if (quantised_ == written) quantised_.reset();
}

cria_value Program::value(cria_rows rows, std::size_t width) {
  require_recording();
  require(rows == CRIA_ROWS_TOKENS || rows == CRIA_ROWS_OUTPUTS, "rows", "CRIA_ROWS_TOKENS or CRIA_ROWS_OUTPUTS", rows);
  require(width > 0 && width <= INT32_MAX, "width", "from 1 to 2^31 - 1", width);
  require(values_.size() < INT32_MAX, "value", "one of fewer than 2^31", values_.size());
  values_.push_back({rows, width});
  return static_cast<cria_value>(values_.size() - 1);
}

void Program::embed(TensorPtr table, cria_value out) {
  require_recording();
  require_layout(*table, Layout::kMatrix, "table");
  check_width(out, table->cols, "out");
  require(checked(out, "out").rows == CRIA_ROWS_TOKENS, "out", "a value with a row for each token", out);
  vocabulary_ = vocabulary_ == 0 ? table->rows : std::min(vocabulary_, table->rows);
  record(EmbedOp{std::move(table), out}, out);
}

void Program::rmsnorm(cria_value x, TensorPtr weight, float eps, cria_value out) {
  require_recording();
  require_layout(*weight, Layout::kVector, "weight");
  check_width(x, weight->cols, "x");
  check_width(out, weight->cols, "out");
  check_same_rows(x, out, "out");
  require(std::isfinite(eps) && eps > 0, "eps", "above 0", eps);
  record(RmsNormOp{x, std::move(weight), eps, out}, out);
}

void Program::record_product(cria_value x, TensorPtr weight, cria_value out, std::size_t column, Finish finish) {
  if (x == out) throw Error(CRIA_ERROR_ARGUMENT, "out: must not be x");
  if (is_quantised(weight->type) && quantised_ != x) {
    record(QuantizeOp{x}, -1);
    quantised_ = x;
    quantised_width_ = std::max(quantised_width_, weight->cols);
  }
  record(MatmulOp{x, std::move(weight), out, column, finish}, out);
}

void Program::matmul(cria_value x, TensorPtr weight, cria_value out, std::size_t column) {
  require_recording();
  require_layout(*weight, Layout::kMatrix, "weight");
  check_width(x, weight->cols, "x");
  check_same_rows(x, out, "out");
  const std::size_t width = checked(out, "out").width;
  require(column <= width && weight->rows <= width - column, "column",
          "at most out's " + std::to_string(width) + " less weight's " + std::to_string(weight->rows), column);
  record_product(x, std::move(weight), out, column, Finish::kStore);
}

void Program::matmul_add(cria_value x, TensorPtr weight, cria_value out) {
  require_recording();
  require_layout(*weight, Layout::kMatrix, "weight");
  check_width(x, weight->cols, "x");
  check_width(out, weight->rows, "out");
  check_same_rows(x, out, "out");
  record_product(x, std::move(weight), out, 0, Finish::kAdd);
}

void Program::matmul_swiglu(cria_value x, TensorPtr weight, cria_value out) {
  require_recording();
  require_layout(*weight, Layout::kMatrix, "weight");
  check_width(x, weight->cols, "x");
  check_same_rows(x, out, "out");
  const std::size_t width = checked(out, "out").width;
  require(weight->rows % 2 == 0 && weight->rows / 2 == width, "weight",
          "of " + std::to_string(2 * width) + " rows, twice out's width", weight->rows);
  if (x == out) throw Error(CRIA_ERROR_ARGUMENT, "out: must not be x");
  // Backends give gate and up to one thread in groups of 16 rows.
  if (width % 16 == 0) return record_product(x, std::move(weight), out, 0, Finish::kSwiGlu);
  const cria_value gate_up = value(checked(out, "out").rows, weight->rows);
  record_product(x, std::move(weight), gate_up, 0, Finish::kStore);
  swiglu(gate_up, out);
}

void Program::rope(cria_value qkv, std::size_t layer, const cria_rope_options& options) {
  require_recording();
  check_rope(options, cache_.kv_heads, cache_.head_dim);
  check_layer(layer);
  check_width(qkv, (options.heads + 2 * cache_.kv_heads) * cache_.head_dim, "qkv");
  require(checked(qkv, "qkv").rows == CRIA_ROWS_TOKENS, "qkv", "a value with a row for each token", qkv);
  RopeAngles angles = rope_angles(options);
  auto known = std::find(angles_.begin(), angles_.end(), angles);
  if (known == angles_.end()) known = angles_.insert(known, std::move(angles));
  record(RopeOp{qkv, layer, options.heads, static_cast<std::size_t>(known - angles_.begin()), options.halves != 0},
         qkv);
}

void Program::attention(cria_value qkv, std::size_t layer, std::size_t heads, cria_value out) {
  require_recording();
  check_layer(layer);
  check_heads(heads, cache_.kv_heads);
  check_width(qkv, (heads + 2 * cache_.kv_heads) * cache_.head_dim, "qkv");
  check_width(out, heads * cache_.head_dim, "out");
  require(checked(qkv, "qkv").rows == CRIA_ROWS_TOKENS, "qkv", "a value with a row for each token", qkv);
  check_same_rows(qkv, out, "out");
  record(AttentionOp{qkv, layer, heads, out}, out);
}

void Program::prefix_attention(cria_value qkv, TensorPtr keys, TensorPtr values, TensorPtr gates, cria_value out) {
  require_recording();
  require_layout(*keys, Layout::kVector, "keys");
  require_layout(*values, Layout::kVector, "values");
  require_layout(*gates, Layout::kVector, "gates");
  const std::size_t heads = gates->cols, key = cache_.kv_heads * cache_.head_dim;
  require(heads % cache_.kv_heads == 0, "gates",
          "one for each head, a multiple of kv_heads " + std::to_string(cache_.kv_heads), heads);
  require(keys->cols % key == 0 && keys->cols / key <= kMaxPrefix, "keys",
          "1 to " + std::to_string(kMaxPrefix) + " of kv_heads * head_dim " + std::to_string(key), keys->cols);
  require(values->cols == keys->cols, "values", "as many as keys, " + std::to_string(keys->cols), values->cols);
  check_width(qkv, (heads + 2 * cache_.kv_heads) * cache_.head_dim, "qkv");
  check_width(out, heads * cache_.head_dim, "out");
  require(checked(qkv, "qkv").rows == CRIA_ROWS_TOKENS, "qkv", "a value with a row for each token", qkv);
  check_same_rows(qkv, out, "out");
  record(PrefixAttentionOp{qkv, std::move(keys), std::move(values), std::move(gates), out}, out);
}

void Program::swiglu(cria_value gate_up, cria_value out) {
  require_recording();
  const std::size_t width = checked(out, "out").width;
  check_width(gate_up, 2 * width, "gate_up");
  check_same_rows(gate_up, out, "out");
  record(SwiGluOp{gate_up, out}, out);
}

void Program::add(cria_value x, cria_value y, cria_value out) {
  require_recording();
  const std::size_t width = checked(x, "x").width;
  check_width(y, width, "y");
  check_width(out, width, "out");
  check_same_rows(x, y, "y");
  check_same_rows(x, out, "out");
  record(AddOp{x, y, out}, out);
}

void Program::select(cria_value x, cria_value out) {
  require_recording();
  check_width(out, checked(x, "x").width, "out");
  require(checked(x, "x").rows == CRIA_ROWS_TOKENS, "x", "a value with a row for each token", x);
  require(checked(out, "out").rows == CRIA_ROWS_OUTPUTS, "out", "a value with a row for each output", out);
  record(SelectOp{x, out}, out);
}

void Program::gather(cria_value x, std::span<const std::int32_t> columns, cria_value out) {
  require_recording();
  const auto width = static_cast<std::int64_t>(checked(x, "x").width);
  check_width(out, columns.size(), "out");
  check_same_rows(x, out, "out");
  if (x == out) throw Error(CRIA_ERROR_ARGUMENT, "out: must not be x");
  for (const std::int32_t column : columns) {
    require(column >= -1 && column < width, "columns", "from -1 to " + std::to_string(width - 1), column);
  }
  record(GatherOp{x, std::make_shared<const std::vector<std::int32_t>>(columns.begin(), columns.end()), out}, out);
}

void Program::finish(cria_value result) {
  require_recording();
  require(checked(result, "result").rows == CRIA_ROWS_OUTPUTS, "result", "a value with a row for each output", result);
  result_ = result;
}

}  // namespace cria
