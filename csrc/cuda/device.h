// A GPU as the backend holds it: the plugin's calls with their failures as exceptions, and the memory that they give.
//
// A kernel that fails leaves the driver's context unusable for the rest of the process, so the first failure of a call
// that was not refused at once poisons the device: whatever is asked of it afterwards is refused with its sentence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "../../cuda/plugin.h"
#include "../core/error.h"

namespace cria::cuda {

// Who holds it puts work on a device's stream, or takes or gives back memory.
using Turn = std::unique_lock<std::recursive_mutex>;

class Device {
 public:
  // Throws CRIA_ERROR_UNSUPPORTED where the plugin is absent, CRIA_ERROR_DEVICE where the GPU cannot be opened.
  explicit Device(cria_device_kind kind);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const cria_device_kind kind;
  const Plugin& plugin;
  DeviceFacts facts{};
  Stream stream = nullptr;          // the order of all work
  Stream capture_stream = nullptr;  // where graphs are captured: others may wait for `stream` meanwhile

  std::recursive_mutex turn;

  // Throws CRIA_ERROR_MEMORY, or CRIA_ERROR_DEVICE: for good where the call was not refused.
  void check(Status status, const char* what);

  // Work on the stream, which nothing waits for but synchronize().
  void copy(void* to, const void* from, std::size_t bytes) {
    require_healthy();
    check(plugin.copy(to, from, bytes, stream), "a copy");
  }
  void clear(void* memory, std::size_t bytes) {
    require_healthy();
    check(plugin.clear(memory, bytes, stream), "clearing memory");
  }
  template <class Operands>
  void launch(Status (*op)(const Operands&, Stream), const Operands& operands, const char* name) {
    require_healthy();
    check(op(operands, stream), name);
  }
  void synchronize() {
    require_healthy();
    check(plugin.synchronize(stream), "a kernel");
  }
  // The same, others having their turn meanwhile. `turn` is the only one that the thread holds.
  void synchronize(Turn& turn) {
    const Stream waited = stream;
    turn.unlock();
    const Status status = plugin.synchronize(waited);
    turn.lock();
    require_healthy();
    check(status, "a kernel");
  }

  void require_healthy() const {
    const std::lock_guard lock(failure_lock_);
    if (!failure_.empty()) throw Error(CRIA_ERROR_DEVICE, failure_);
  }

 private:
  mutable std::mutex failure_lock_;
  std::string failure_;  // of the first call after which nothing works
};

using DevicePtr = std::shared_ptr<Device>;

// Memory of the device, or pinned memory of the host that it reads and writes without waiting.
enum class Place { kDevice, kHost };

template <Place place>
class Buffer {
 public:
  Buffer() = default;
  Buffer(DevicePtr device, std::size_t bytes) : device_(std::move(device)), bytes_(bytes) {
    if (bytes == 0) return;
    const std::lock_guard turn(device_->turn);
    device_->require_healthy();
    const Plugin& plugin = device_->plugin;
    device_->check((place == Place::kDevice ? plugin.allocate : plugin.allocate_host)(&data_, bytes),
                   place == Place::kDevice ? "memory of the GPU" : "pinned memory");
  }
  ~Buffer() {
    if (data_ == nullptr) return;
    const std::lock_guard turn(device_->turn);
    (place == Place::kDevice ? device_->plugin.free : device_->plugin.free_host)(data_);
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  template <class T = std::uint8_t>
  T* data() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  DevicePtr device_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

using DeviceMemory = Buffer<Place::kDevice>;
using HostMemory = Buffer<Place::kHost>;

}  // namespace cria::cuda
