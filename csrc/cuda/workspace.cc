#include "workspace.h"

#include <algorithm>

#include "../../cuda/quant_rows.h"
#include "../../cuda/sample.h"
#include "../core/checked.h"

namespace cria::cuda {

// Of a batch, as it lies on the device: 64 sequences of 128 blocks, and more.
constexpr std::size_t kLeastBatch = 64 << 10;

Workspace::Workspace(const DevicePtr& device, const Program& program)
    : device(device),
      values(program.values().size()),
      cosines(program.angles().size()),
      sines(program.angles().size()),
      graphs(device) {
  for (const cria::RopeAngles& angles : program.angles()) {
    const std::vector<double>& host = angles.frequencies;
    frequencies.emplace_back(device, host.size() * sizeof(double));
    device->copy(frequencies.back().data(), host.data(), host.size() * sizeof(double));
    device->synchronize();
  }
}

void Workspace::reserve(const Program& program, const BatchPlan& plan, std::size_t partial_floats) {
  const Capacities& room = plan.capacities();
  const auto reserve = [&](auto& memory, std::initializer_list<std::size_t> factors) {
    grow(memory, checked_product(factors));
  };
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Value& value = program.values()[i];
    reserve(values[i], {value.rows == CRIA_ROWS_TOKENS ? room.tokens : room.outputs, value.width, sizeof(float)});
  }
  const std::size_t rows = std::max(room.tokens, room.outputs), units = superblocks(program.quantised_width());
  reserve(quants, {rows, units, kSuperblock});
  reserve(scales, {rows, units, kSuperblock / kQuantBlock, sizeof(float)});
  reserve(partials, {partial_floats, sizeof(float)});
  for (std::size_t i = 0; i < cosines.size(); ++i) {
    const std::size_t pairs = program.angles()[i].pairs();
    reserve(cosines[i], {room.tokens, pairs, sizeof(float)});
    reserve(sines[i], {room.tokens, pairs, sizeof(float)});
  }
  // Block tables grow by a block every 16 tokens, and each growth costs all graphs.
  const std::size_t words = std::max(plan.bytes(), kLeastBatch);
  grow(batch, batch.doubled(words));
  host_batch.reserve(device, host_batch.doubled(words));
}

void Workspace::reserve_decode(std::size_t rows, std::size_t kept, std::size_t parts, std::size_t steps) {
  const auto reserve = [&](auto& memory, std::initializer_list<std::size_t> factors) {
    grow(memory, checked_product(factors));
  };
  reserve(sampling, {rows, sizeof(Sampling)});
  reserve(partial_candidates, {rows, parts, kept, sizeof(Candidate)});
  reserve(candidates, {rows, kept, sizeof(Candidate)});
  reserve(sampled, {rows, sizeof(std::int32_t)});
  reserve(step, {sizeof(std::int32_t)});
  reserve(history, {steps, rows, sizeof(std::int32_t)});
  host_sampling.reserve(device, checked_product({rows, sizeof(Sampling)}));
}

}  // namespace cria::cuda
