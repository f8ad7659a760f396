#include "library.h"

#include <dlfcn.h>

#include <string>

#include "../../cuda/emulation/device_name.h"
#include "../core/error.h"
#include "../core/text.h"

namespace cria::cuda {
namespace {

// The CUDA version of the compiler, as cuDriverGetVersion has it: 13.1 is 13010. A driver of the same major version
// runs what it made ("minor version compatibility"), PTX excepted.
#ifndef CRIA_CUDA_VERSION
#define CRIA_CUDA_VERSION 13000
#endif
constexpr int kToolkit = CRIA_CUDA_VERSION, kDriverNeeded = kToolkit / 1000 * 1000;

constexpr int kMajorNeeded = 8;  // cp.async, and mma of the shapes used

[[noreturn]] void absent(const std::string& reason) { throw Error(CRIA_ERROR_UNSUPPORTED, reason); }

// The few functions of the driver that say what there is.
class Driver {
 public:
  Driver() : library_(dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) absent("no NVIDIA driver is installed (libcuda.so.1 was not found)");
    int version = 0;
    function<int(int*)>("cuDriverGetVersion")(&version);
    require_version(version, kDriverNeeded);
    int count = 0;
    if (function<int(unsigned)>("cuInit")(0) != 0 || function<int(int*)>("cuDeviceGetCount")(&count) != 0 ||
        count == 0) {
      absent("the NVIDIA driver shows this process no GPU");
    }
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and MINOR
    const auto attribute = function<int(int*, int, int)>("cuDeviceGetAttribute");
    int major = 0, minor = 0;
    attribute(&major, 75, 0);
    attribute(&minor, 76, 0);
    function<int(char*, int, int)>("cuDeviceGetName")(name_, sizeof(name_), 0);
    function<int(std::size_t*, int)>("cuDeviceTotalMem_v2")(&memory_, 0);
    if (major < kMajorNeeded) {
      absent(std::string(name_) + " has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
             ", and the kernels need " + std::to_string(kMajorNeeded) + ".0");
    }
    // There is code of 8.x and 9.0; for a later GPU the driver compiles PTX, which it has to be as new as.
    if (major > 9 || (major == 9 && minor > 0)) require_version(version, kToolkit);
  }

  const char* name() const { return name_; }
  std::size_t memory() const { return memory_; }

 private:
  static void require_version(int version, int needed) {
    if (version >= needed) return;
    absent("the NVIDIA driver is too old: it speaks CUDA " + show_version(version) + ", and this build needs " +
           show_version(needed));
  }
  static std::string show_version(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  }

  template <class Signature>
  Signature* function(const char* name) const {
    void* symbol = dlsym(library_, name);
    if (symbol == nullptr) absent(std::string("the NVIDIA driver has no ") + name);
    return reinterpret_cast<Signature*>(symbol);
  }

  void* library_;  // for as long as the process lives
  char name_[96] = {};
  std::size_t memory_ = 0;
};

// The folder of the library that this function is in.
std::string own_folder() {
  Dl_info self{};
  dladdr(reinterpret_cast<const void*>(&load_plugin), &self);
  const std::string path = self.dli_fname == nullptr ? "" : self.dli_fname;
  return path.substr(0, path.rfind('/') + 1);
}

const Plugin& open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* cause = dlerror();
    absent("the CUDA plugin could not be loaded (in a clone \"npm run build:cuda\" builds it): " +
           std::string(cause == nullptr ? path : cause));
  }
  const auto get = reinterpret_cast<decltype(&cria_cuda_plugin)>(dlsym(library, "cria_cuda_plugin"));
  const Plugin* plugin = get == nullptr ? nullptr : get();
  if (plugin == nullptr || plugin->version != kPluginVersion || plugin->size != kPluginSize) {
    absent(path + " is of another version of cria");
  }
  return *plugin;
}

}  // namespace

const Plugin& load_plugin(cria_device_kind kind) {
  if (kind == CRIA_DEVICE_CUDA_EMULATED) {
    static const Plugin& emulated = open_library(own_folder() + "libcria_cuda_emulated.so");
    return emulated;
  }
  static const Driver driver;
  static const Plugin& plugin = open_library(own_folder() + "libcria_cuda.so");
  return plugin;
}

cria_device_info describe(cria_device_kind kind) {
  cria_device_info info{.struct_size = sizeof(cria_device_info), .kind = kind};
  try {
    load_plugin(kind);
    if (kind == CRIA_DEVICE_CUDA_EMULATED) {
      put_text(info.name, emulation::kDeviceName);
    } else {
      const Driver driver;
      put_text(info.name, driver.name());
      info.memory_bytes = info.available_bytes = driver.memory();
    }
    info.available = 1;
  } catch (const Error& error) {
    put_text(info.reason, error.what());
  }
  return info;
}

}  // namespace cria::cuda
