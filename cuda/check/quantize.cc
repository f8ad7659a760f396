#include <cmath>

#include "quants.h"

namespace cria::cuda::check {
namespace {

void check_rows(Checks& checks, const RowShape& shape, const std::string& name, const std::vector<float>& x) {
  const DeviceArray<float> device_x(checks, x);
  const DeviceQuants out(checks, shape);
  const DeviceRows rows(checks, shape.count, shape.capacity);
  checks.require(checks.plugin.quantize({device_x.data(), out, rows, shape.dim}, checks.stream), "quantize");
  same_quants(checks, "quantize", name, quantized_by_cpu(shape, x), out.read());
}

// A block of each kind that the formula treats apart.
void check_edges(Checks& checks) {
  const float limit = 0x1p-119f, largest = std::numeric_limits<float>::max();
  std::vector<std::vector<float>> blocks;
  for (const float first : {0.0f, -0.0f, 1e-45f, std::nextafter(limit, 0.0f), limit, std::nextafter(limit, 1.0f),
                            largest, -largest, INFINITY, -INFINITY, std::nanf(""), -std::nanf("")}) {
    for (const int place : {0, 21}) {
      const bool tiny = !(std::fabs(first) > 2 * limit);
      blocks.push_back(tiny ? std::vector<float>(32) : checks.normal(32));
      blocks.back()[place] = first;
    }
  }
  // Halves between integers, with a largest magnitude of 127: ties to even, of both signs.
  std::vector<float> ties(32);
  for (int k = 0; k < 32; ++k) ties[k] = k == 0 ? 127.0f : (k % 2 ? 0.5f : -0.5f) + static_cast<float>(3 * k - 40);
  blocks.push_back(ties);

  std::vector<float> x;
  for (const auto& block : blocks) x.insert(x.end(), block.begin(), block.end());
  const int dim = static_cast<int>(x.size());
  check_rows(checks, {1, 1, dim}, "edges in a row", x);
  check_rows(checks, {dim / 32, dim / 32 + 3, 32}, "edges as rows", x);
}

}  // namespace

void check_quantize(Checks& checks) {
  check_edges(checks);
  for (const RowShape& shape : row_shapes(checks)) {
    check_rows(checks, shape, shape.name(), normal_rows(checks, shape));
  }
}

}  // namespace cria::cuda::check
