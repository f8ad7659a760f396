#include "device.h"

#include "library.h"

namespace cria::cuda {
namespace {

constexpr Status kOutOfMemory = 2;  // cudaErrorMemoryAllocation

}  // namespace

Device::Device(cria_device_kind kind) : kind(kind), plugin(load_plugin(kind)) {
  check(plugin.open(&facts), "opening the GPU");
  check(plugin.create_stream(&stream), "a stream");
}

Device::~Device() {
  if (stream != nullptr) plugin.destroy_stream(stream);
}

void Device::check(Status status, const char* what) {
  if (status == 0) return;
  const std::string sentence = std::string("device: ") + what + " failed: " + plugin.describe(status);
  if (status == kOutOfMemory) throw Error(CRIA_ERROR_MEMORY, sentence);
  failure_ = sentence + "; it cannot be used any more in this process";
  throw Error(CRIA_ERROR_DEVICE, failure_);
}

}  // namespace cria::cuda
