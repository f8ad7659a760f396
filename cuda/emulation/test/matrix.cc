// Products and loads of matrices against plain loops over the layouts that matrix.h draws.
#include <cmath>
#include <cstring>
#include <random>

#include "core/half.h"
#include "emulation/counters.h"
#include "test.h"

namespace cria::cuda::emulation::test {

// A warp's fragments of whole matrices: E elements a 32-bit register.
template <class Element>
struct Fragments {
  static constexpr int kE = 4 / sizeof(Element);
  static constexpr int kK = 8 * kE;
  Element a[16][kK], b[8][kK];  // b by columns

  __device__ void of_lane(int lane, std::uint32_t (&ra)[4], std::uint32_t (&rb)[2]) const {
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) std::memcpy(&ra[r], &a[g + 8 * (r & 1)][kE * t + 4 * kE * (r >> 1)], 4);
    for (int r = 0; r < 2; ++r) std::memcpy(&rb[r], &b[g][kE * t + 4 * kE * r], 4);
  }
};

// Runs `multiply` on a warp from c = `start`; out[16][8].
template <class Element, class Sum, class Multiply>
static void run_mma(const Fragments<Element>* in, Sum* out, Sum start, Multiply multiply) {
  expect_fine(1, 32, 0, [=] {
    std::uint32_t a[4], b[2];
    in->of_lane(threadIdx.x, a, b);
    Sum c[4] = {start, start, start, start};
    multiply(c, a, b);
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    for (int r = 0; r < 4; ++r) out[(g + 8 * (r >> 1)) * 8 + 2 * t + (r & 1)] = c[r];
  });
}

static void int8_product() {
  auto* in = device_array<Fragments<std::int8_t>>(1);
  auto* out = device_array<int>(128);
  std::minstd_rand random;
  for (auto& row : in->a) {
    for (auto& value : row) value = static_cast<std::int8_t>(random() >> 8);
  }
  for (auto& column : in->b) {
    for (auto& value : column) value = static_cast<std::int8_t>(random() >> 8);
  }
  in->a[3][0] = in->b[5][0] = -128;
  run_mma(in, out, 1000, [](int(&c)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) { mma_s8(c, a, b); });
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      int sum = 1000;
      for (int k = 0; k < 32; ++k) sum += in->a[i][k] * in->b[j][k];
      expect(out[i * 8 + j] == sum, "a wrong sum");
    }
  }
}

template <class Multiply>
static void float_product(float (*to_float)(std::uint16_t), const std::vector<std::uint16_t>& values,
                          Multiply multiply) {
  auto* in = device_array<Fragments<std::uint16_t>>(1);
  auto* out = device_array<float>(128);
  std::minstd_rand random;
  for (auto& row : in->a) {
    for (auto& value : row) value = values[random() % values.size()];
  }
  for (auto& column : in->b) {
    for (auto& value : column) value = values[random() % values.size()];
  }
  run_mma(in, out, 0.5f, multiply);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double sum = 0.5, size = 0.5;
      for (int k = 0; k < 16; ++k) {
        const double product = static_cast<double>(to_float(in->a[i][k])) * to_float(in->b[j][k]);
        sum += product;
        size += std::fabs(product);
      }
      expect(std::fabs(out[i * 8 + j] - sum) <= 1e-6 * size, "a wrong sum");
    }
  }
}

static void half_product() {
  // With subnormals, whose path through the conversion is their own.
  float_product(half_to_float, {0, 0x8000, 0x3c00, 0xbc00, 0x3555, 0x0001, 0x83ff, 0x7bff, 0x0400},
                [](float(&c)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) { mma_f16(c, a, b); });
}

static void bfloat_product() {
  float_product(bf16_to_float, {0, 0x8000, 0x3f80, 0xbf80, 0x3eab, 0x4049, 0xc2f7},
                [](float(&c)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) { mma_bf16(c, a, b); });
}

static void nan_and_infinity_spread() {
  auto* in = device_array<Fragments<std::uint16_t>>(1);
  auto* out = device_array<float>(128);
  std::memset(in, 0, sizeof *in);
  in->a[2][5] = 0x7e00;  // NaN
  in->a[3][5] = 0xfc00;  // -infinity
  for (auto& column : in->b) column[5] = 0x3c00;
  run_mma(in, out, 0.0f,
          [](float(&c)[4], const std::uint32_t(&a)[4], const std::uint32_t(&b)[2]) { mma_f16(c, a, b); });
  for (int j = 0; j < 8; ++j) {
    expect(std::isnan(out[2 * 8 + j]), "a NaN was lost");
    expect(out[3 * 8 + j] == -INFINITY, "an infinity was lost");
    expect(out[4 * 8 + j] == 0, "a row without them has them");
  }
}

namespace {
struct Matrices {
  std::uint16_t of[4][8][8];
};
}  // namespace

static void ldmatrix_and_its_transpose() {
  auto* out = device_array<std::uint32_t>(32 * 10);
  expect_fine(1, 32, sizeof(Matrices), [=] {
    auto& shared = shared_memory<Matrices>();
    const int lane = threadIdx.x;
    for (int i = 0; i < 8; ++i) shared.of[lane / 8][lane % 8][i] = static_cast<std::uint16_t>(8 * lane + i);
    __syncwarp();
    std::uint32_t plain[4], transposed[4], two[2];
    ldmatrix_x4(plain, shared.of[lane / 8][lane % 8]);
    ldmatrix_x4_trans(transposed, shared.of[lane / 8][lane % 8]);
    ldmatrix_x2(two, lane < 16 ? shared.of[lane / 8][lane % 8] : nullptr);
    std::memcpy(out + 10 * lane, plain, 16);
    std::memcpy(out + 10 * lane + 4, transposed, 16);
    std::memcpy(out + 10 * lane + 8, two, 8);
  });
  for (int lane = 0; lane < 32; ++lane) {
    const std::uint32_t* registers = out + 10 * lane;
    for (int m = 0; m < 4; ++m) {
      const std::uint32_t base = 64 * m, g = lane / 4, t = lane % 4;
      const std::uint32_t row = (base + 8 * g + 2 * t + 1) << 16 | (base + 8 * g + 2 * t);
      const std::uint32_t column = (base + 8 * (2 * t + 1) + g) << 16 | (base + 8 * (2 * t) + g);
      expect(registers[m] == row && registers[4 + m] == column && (m >= 2 || registers[8 + m] == row),
             "a wrong element");
    }
  }
}

// Rows `pitch` bytes apart.
static std::uint64_t conflicts_of(int pitch) {
  reset_counters();
  expect_fine(1, 32, 8 * 1024, [=] {
    std::uint32_t r[4];
    ldmatrix_x4(r, shared_memory<unsigned char[8 * 1024]>() + threadIdx.x % 8 * pitch);
  });
  return counters().begin()->second.ldmatrix_conflicts;
}

static void bank_conflicts() {
  expect(conflicts_of(16) == 0, "rows side by side conflict");
  expect(conflicts_of(80) == 0, "a pitch of five columns conflicts");
  expect(conflicts_of(0) == 0, "one row read by all conflicts");
  expect(conflicts_of(32) == 4, "a pitch of 32 bytes: two rows a column, one more wavefront a matrix");
  expect(conflicts_of(128) == 28, "a pitch of 128 bytes: eight rows in one column, seven more");
}

static const Cases cases{
    {"mma: int8", int8_product},
    {"mma: binary16", half_product},
    {"mma: bfloat16", bfloat_product},
    {"mma: NaN and infinity", nan_and_infinity_spread},
    {"ldmatrix: plain and transposed", ldmatrix_and_its_transpose},
    {"ldmatrix: bank conflicts are counted", bank_conflicts},
};

}  // namespace cria::cuda::emulation::test
