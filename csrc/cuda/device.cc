#include "device.h"

#include <algorithm>
#include <iterator>

#include "library.h"

namespace cria::cuda {
namespace {

constexpr Status kOutOfMemory = 2;  // cudaErrorMemoryAllocation

// Failures of a call that did nothing: the context goes on. cudaErrorInvalidValue, InvalidConfiguration,
// InvalidDeviceFunction, NoKernelImageForDevice, LaunchOutOfResources, NotSupported, and those of captures.
bool refused(Status status) {
  constexpr Status kRefusals[] = {1, 9, 98, 209, 701, 801};
  return (status >= 900 && status <= 908) ||
         std::find(std::begin(kRefusals), std::end(kRefusals), status) != std::end(kRefusals);
}

}  // namespace

Device::Device(cria_device_kind kind) : kind(kind), plugin(load_plugin(kind)) {
  Status status = plugin.open(&facts);
  if (status == 0) status = plugin.create_stream(&stream);
  if (status == 0) status = plugin.create_stream(&capture_stream);
  if (status == 0) return;
  if (stream != nullptr) plugin.destroy_stream(stream);
  throw Error(status == kOutOfMemory ? CRIA_ERROR_MEMORY : CRIA_ERROR_DEVICE,
              std::string("device: the GPU could not be opened: ") + plugin.describe(status));
}

Device::~Device() {
  plugin.destroy_stream(capture_stream);
  plugin.destroy_stream(stream);
}

void Device::check(Status status, const char* what) {
  if (status == 0) return;
  const std::string sentence = std::string("device: ") + what + " failed: " + plugin.describe(status);
  if (status == kOutOfMemory) throw Error(CRIA_ERROR_MEMORY, sentence);
  if (refused(status)) throw Error(CRIA_ERROR_DEVICE, sentence);
  const std::lock_guard lock(failure_lock_);
  if (failure_.empty()) failure_ = sentence + "; it cannot be used any more in this process";
  throw Error(CRIA_ERROR_DEVICE, failure_);
}

}  // namespace cria::cuda
