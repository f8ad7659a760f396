// One kernel from C++ (C++17 or later): the product of q4_0 weights and the activations of two tokens.
//
//   npm install cria
//   package=node_modules/cria libraries=$package/prebuilds/linux-x64
//   c++ -std=c++17 matmul.cc -I $package/csrc -L $libraries -lcria -Wl,-rpath,$libraries -o matmul && ./matmul
#include <cria.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>

namespace {

struct Free {
  void operator()(cria_device* device) const { cria_device_free(device); }
  void operator()(cria_tensor* tensor) const { cria_tensor_free(tensor); }
};
using Device = std::unique_ptr<cria_device, Free>;
using Tensor = std::unique_ptr<cria_tensor, Free>;

// A call that failed, with cria_last_error's sentence.
class Error : public std::runtime_error {
 public:
  explicit Error(cria_status status) : std::runtime_error(cria_last_error()), status_(status) {}
  cria_status status() const { return status_; }

 private:
  cria_status status_;
};

void check(cria_status status) {
  if (status != CRIA_OK) throw Error(status);
}

Device open_cpu() {
  cria_device_options options{};
  options.struct_size = sizeof(options);
  options.kind = CRIA_DEVICE_CPU;
  cria_device* device = nullptr;
  check(cria_device_open(&options, &device));
  return Device(device);
}

Tensor create_matrix(const Device& device, cria_type type, std::size_t rows, std::size_t cols) {
  cria_tensor* tensor = nullptr;
  check(cria_matrix_create(device.get(), type, rows, cols, &tensor));
  return Tensor(tensor);
}

constexpr std::size_t kRows = 4, kCols = 64, kTokens = 2;
// A q4_0 block, as GGUF files hold it: 32 weights of a row, as a scale in f16, little-endian, and 32 times 4 bits.
constexpr std::size_t kBlock = 32, kBlockBytes = 2 + kBlock / 2, kBlocks = kRows * kCols / kBlock;

// Weights and activations from nowhere in particular, the same in the examples of every language.
std::array<std::uint8_t, kBlocks * kBlockBytes> some_weights() {
  std::array<std::uint8_t, kBlocks * kBlockBytes> weights;
  for (std::size_t b = 0; b < kBlocks; ++b) {
    std::uint8_t* block = &weights[b * kBlockBytes];
    block[0] = 0x00;  // 0x2c00 is 1/16
    block[1] = 0x2c;
    for (std::size_t i = 0; i < kBlock / 2; ++i) block[2 + i] = static_cast<std::uint8_t>(37 * b + 11 * i);
  }
  return weights;
}

std::array<float, kTokens * kCols> some_activations() {
  std::array<float, kTokens * kCols> x;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (static_cast<float>(7 * i % 13) - 6) / 8;
  return x;
}

void run() {
  const Device device = open_cpu();
  const Tensor weight = create_matrix(device, CRIA_TYPE_Q4_0, kRows, kCols);
  const auto data = some_weights();
  check(cria_tensor_pack(weight.get(), 0, kRows, data.data(), data.size()));

  const auto x = some_activations();
  std::array<float, kTokens * kRows> out;
  check(cria_matmul(device.get(), weight.get(), kTokens, x.data(), out.data()));
  for (std::size_t i = 0; i < out.size(); ++i) std::printf("%.9g%s", out[i], (i + 1) % kRows == 0 ? "\n" : " ");

  // What cannot be is refused, with a sentence that says why.
  try {
    create_matrix(device, CRIA_TYPE_Q4_0, kRows, kCols + 1);
  } catch (const Error& error) {
    std::printf("refused with %d: %s\n", error.status(), error.what());
  }
}

}  // namespace

int main() {
  if (cria_abi_version() != CRIA_ABI_VERSION) {
    std::fprintf(stderr, "libcria.so is of ABI version %u, not %u\n", cria_abi_version(), CRIA_ABI_VERSION);
    return 1;
  }
  try {
    run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cria: %s\n", error.what());
    return 1;
  }
}
