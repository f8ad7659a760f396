#include "../core/error.h"
#include "../core/text.h"
#include "library.h"

namespace cria::cuda {
namespace {

constexpr char kReason[] = "the CUDA backend is for Linux so far";

}  // namespace

const Plugin& load_plugin(cria_device_kind) { throw Error(CRIA_ERROR_UNSUPPORTED, kReason); }

cria_device_info describe(cria_device_kind kind) {
  cria_device_info info{.struct_size = sizeof(cria_device_info), .kind = kind};
  put_text(info.reason, kReason);
  return info;
}

}  // namespace cria::cuda
