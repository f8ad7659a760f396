#include "backend.h"

#include <cstring>
#include <vector>

#include "../core/text.h"
#include "../cpu/rope.h"
#include "blocks.h"
#include "cache.h"
#include "executor.h"
#include "pack.h"
#include "tensor.h"

namespace cria::cuda {
namespace {

struct Event {
  explicit Event(DevicePtr device) : device(std::move(device)) {
    this->device->check(this->device->plugin.create_event(&handle), "an event");
  }
  ~Event() { device->plugin.destroy_event(handle); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() const { device->check(device->plugin.record_event(handle, device->stream), "an event"); }

  DevicePtr device;
  void* handle = nullptr;
};

}  // namespace

cria_device_info CudaBackend::info() const {
  const std::lock_guard turn(device_->turn);
  DeviceFacts facts{};
  device_->require_healthy();
  device_->check(device_->plugin.facts(&facts), "asking the GPU what it is");
  cria_device_info info{.struct_size = sizeof(cria_device_info),
                        .kind = device_->kind,
                        .available = 1,
                        .memory_bytes = facts.memory_bytes,
                        .available_bytes = facts.available_bytes};
  put_text(info.name, facts.name);
  return info;
}

std::shared_ptr<Tensor> CudaBackend::matrix(cria_type type, std::size_t rows, std::size_t cols) {
  require_layout(type);
  return std::make_shared<Matrix>(device_, type, rows, cols);
}

std::shared_ptr<Tensor> CudaBackend::map_matrix(cria_type, std::size_t, std::size_t, const File&, std::uint64_t) {
  throw Error(CRIA_ERROR_UNSUPPORTED, "device: must be the CPU, whose layout packed files are in, not a GPU");
}

std::shared_ptr<Tensor> CudaBackend::read_matrix(cria_type type, std::size_t rows, std::size_t cols, const File& file,
                                                 std::uint64_t offset) {
  return map_matrix(type, rows, cols, file, offset);
}

std::shared_ptr<Tensor> CudaBackend::vector(cria_type type, std::size_t size) {
  return std::make_shared<Vector>(device_, type, size);
}

std::shared_ptr<Cache> CudaBackend::cache(const CacheShape& shape, std::size_t blocks) {
  return std::make_shared<KvCache>(device_, shape, blocks);
}

void CudaBackend::run(const Program& program, Cache& cache, const Batch& batch, const Cancel* cancel, float* result) {
  execute(device_, program, static_cast<const KvCache&>(cache), batch, cancel, result);
}

void CudaBackend::decode(const Program& program, Cache& cache, const Batch& batch, const DecodeOptions& options,
                         const Cancel* cancel, std::int32_t* tokens) {
  cuda::decode(device_, program, static_cast<const KvCache&>(cache), batch, options, cancel, tokens);
}

// Blocks: in each layer a block's heads are one piece on the device; keys are turned on the host.

void CudaBackend::read_blocks(const Cache& cache, std::span<const std::int32_t> blocks, std::uint8_t* out) {
  const auto& kv = static_cast<const KvCache&>(cache);
  const std::size_t layers = kv.shape.layers, piece = kv.shape.kv_heads * kv.head_bytes();
  {
    const std::lock_guard turn(device_->turn);
    for (std::size_t unit = 0; unit < blocks.size() * layers; ++unit) {
      const auto block = static_cast<std::size_t>(blocks[unit / layers]);
      device_->copy(out + unit * piece, kv.layer(unit % layers).k.data + block * piece, piece);
    }
    device_->synchronize();
  }
  std::vector<std::uint8_t> keys(kv.k_bytes());
  for (std::size_t head = 0; head < blocks.size() * layers * kv.shape.kv_heads; ++head) {
    std::uint8_t* place = out + head * kv.head_bytes();
    keys_from_device(kv.shape.key_type, kv.shape.head_dim, place, keys.data());
    std::memcpy(place, keys.data(), keys.size());
  }
}

void CudaBackend::write_blocks(Cache& cache, std::span<const std::int32_t> blocks, const std::uint8_t* bytes) {
  const auto& kv = static_cast<const KvCache&>(cache);
  const std::size_t layers = kv.shape.layers, piece = kv.shape.kv_heads * kv.head_bytes();
  std::vector<std::uint8_t> turned(bytes, bytes + blocks.size() * layers * piece);
  for (std::size_t at = 0; at < turned.size(); at += kv.head_bytes()) {
    keys_to_device(kv.shape.key_type, kv.shape.head_dim, bytes + at, turned.data() + at);
  }
  const std::lock_guard turn(device_->turn);
  for (std::size_t unit = 0; unit < blocks.size() * layers; ++unit) {
    const auto block = static_cast<std::size_t>(blocks[unit / layers]);
    device_->copy(kv.layer(unit % layers).k.data + block * piece, turned.data() + unit * piece, piece);
  }
  device_->synchronize();
}

void CudaBackend::move_slots(Cache& cache, const CacheMove& move) {
  const auto& kv = static_cast<const KvCache&>(cache);
  if (move.from.empty()) return;
  const std::size_t pairs = move.rope == nullptr ? 0 : move.rope->rotary_dim / 2;
  std::vector<float> cosine(pairs), sine(pairs);
  if (move.rope != nullptr) {
    cpu::rope_shift(move.shift, cria::rope_angles(*move.rope), cosine.data(), sine.data());
  }
  const std::lock_guard turn(device_->turn);
  const DeviceMemory from(device_, move.from.size_bytes()), to(device_, move.to.size_bytes());
  const DeviceMemory cosines(device_, pairs * sizeof(float)), sines(device_, pairs * sizeof(float));
  device_->copy(from.data(), move.from.data(), from.bytes());
  device_->copy(to.data(), move.to.data(), to.bytes());
  device_->copy(cosines.data(), cosine.data(), cosines.bytes());
  device_->copy(sines.data(), sine.data(), sines.bytes());
  device_->launch(device_->plugin.kv_move,
                  KvMove{kv.layer(0), static_cast<std::int64_t>(kv.layer_bytes()), static_cast<int>(kv.shape.layers),
                         from.data<std::int32_t>(), to.data<std::int32_t>(), static_cast<int>(move.from.size()),
                         static_cast<int>(2 * pairs), move.rope != nullptr && move.rope->halves != 0,
                         cosines.data<float>(), sines.data<float>()},
                  "kv_move");
  device_->synchronize();
}

void CudaBackend::measure_limit(cria_limit limit, std::span<double> rates) {
  if (limit != CRIA_LIMIT_READ && limit != CRIA_LIMIT_COPY) {
    throw Error(CRIA_ERROR_UNSUPPORTED, "limit: must be READ or COPY on a GPU, not an instruction of a CPU");
  }
  // Read plus written: on a GPU the two share the one path to memory, so a copy's rate is that of reading too.
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const std::lock_guard turn(device_->turn);
  const DeviceMemory from(device_, kBytes), to(device_, kBytes);
  const Event begin(device_), end(device_);
  for (double& rate : rates) {
    float milliseconds = 0.0f;
    begin.record();
    device_->copy(to.data(), from.data(), kBytes);
    end.record();
    device_->check(device_->plugin.milliseconds(begin.handle, end.handle, &milliseconds), "an event");
    rate = 2.0 * kBytes / (milliseconds * 1e-3);
  }
}

}  // namespace cria::cuda
