#include "matrix.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "access.h"
#include "block.h"

namespace cria::cuda::emulation {

constexpr std::uint32_t kWholeWarp = 0xffffffff;

// --- int8 ---

void place_a(std::int8_t (&a)[16][32], int lane, const std::uint32_t (&registers)[4]) {
  const int g = lane / 4, t = lane % 4;
  for (int r = 0; r < 4; ++r) std::memcpy(&a[g + 8 * (r & 1)][4 * t + 16 * (r >> 1)], &registers[r], 4);
}

void multiply_s8(int (&c)[16][8], const std::int8_t (&a)[16][32], const std::int8_t (&b)[8][32]) {
  // As int16, where two neighbours' products add in one instruction (pmaddwd).
  std::int16_t wide[8][32];
  for (int j = 0; j < 8; ++j) {
    for (int k = 0; k < 32; ++k) wide[j][k] = b[j][k];
  }
  for (int i = 0; i < 16; ++i) {
    std::int16_t row[32];
    for (int k = 0; k < 32; ++k) row[k] = a[i][k];
    for (int j = 0; j < 8; ++j) {
      int sum = 0;
      for (int k = 0; k < 32; ++k) sum += row[k] * wide[j][k];
      c[i][j] = static_cast<int>(static_cast<unsigned>(c[i][j]) + static_cast<unsigned>(sum));
    }
  }
}

namespace {
template <class Sum>
struct Mma {
  Sum (*c)[4];
  const std::uint32_t (*a)[4];
  const std::uint32_t (*b)[2];
};
}  // namespace

static void fold_s8(const Gathered& lanes) {
  std::int8_t a[16][32], b[8][32];
  int c[16][8] = {};
  for (int l = 0; l < kWarpLanes; ++l) {
    const auto& operands = lanes.of<Mma<int>>(l);
    const int g = l / 4, t = l % 4;
    place_a(a, l, *operands.a);
    for (int r = 0; r < 2; ++r) std::memcpy(&b[g][4 * t + 16 * r], &(*operands.b)[r], 4);
  }
  multiply_s8(c, a, b);
  for (int l = 0; l < kWarpLanes; ++l) {
    int(&sums)[4] = *lanes.of<Mma<int>>(l).c;
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r) {
      sums[r] = static_cast<int>(static_cast<unsigned>(sums[r]) +
                                 static_cast<unsigned>(c[g + 8 * (r >> 1)][2 * t + (r & 1)]));
    }
  }
  ++lanes.warp.block->counters.mma;
}

void mma_s8(int (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site) {
  static const Collective kMmaS8{"mma_s8", true, fold_s8};
  Mma<int> operands{&c, &a, &b};
  collect(kMmaS8, kWholeWarp, &operands, site);
}

// --- binary16 and bfloat16 ---

// Eight values at a time: from one loop without branches the compiler makes vector code.
static void widen_f16(const std::uint16_t* from, float* to, int count) {
  for (int i = 0; i < count; ++i) {
    const std::uint32_t magnitude = from[i] & 0x7fffu;
    // As a binary32 the exponent is 112 too small; of infinity and NaN it becomes all ones.
    const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
    const std::uint32_t special = magnitude >= 0x7c00 ? 0x7f800000 : 0;
    to[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | special | (from[i] & 0x8000u) << 16);
  }
}
static void widen_bf16(const std::uint16_t* from, float* to, int count) {
  for (int i = 0; i < count; ++i) to[i] = std::bit_cast<float>(static_cast<std::uint32_t>(from[i]) << 16);
}

template <void (*kWiden)(const std::uint16_t*, float*, int)>
static void multiply(float (&c)[16][8], const std::uint16_t (&a)[16][16], const std::uint16_t (&b)[8][16]) {
  float rows[16][16], columns[8][16], b_rows[16][8];
  kWiden(a[0], rows[0], 256);
  kWiden(b[0], columns[0], 128);
  for (int j = 0; j < 8; ++j) {
    for (int k = 0; k < 16; ++k) b_rows[k][j] = columns[j][k];
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) c[i][j] += rows[i][k] * b_rows[k][j];
    }
  }
}

void multiply_f16(float (&c)[16][8], const std::uint16_t (&a)[16][16], const std::uint16_t (&b)[8][16]) {
  multiply<widen_f16>(c, a, b);
}

template <void (*kWiden)(const std::uint16_t*, float*, int)>
static void fold_float(const Gathered& lanes) {
  std::uint16_t a[16][16], b[8][16];
  for (int l = 0; l < kWarpLanes; ++l) {
    const auto& operands = lanes.of<Mma<float>>(l);
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r) std::memcpy(&a[g + 8 * (r & 1)][2 * t + 8 * (r >> 1)], &(*operands.a)[r], 4);
    for (int r = 0; r < 2; ++r) std::memcpy(&b[g][2 * t + 8 * r], &(*operands.b)[r], 4);
  }
  float c[16][8] = {};
  multiply<kWiden>(c, a, b);
  for (int l = 0; l < kWarpLanes; ++l) {
    float(&sums)[4] = *lanes.of<Mma<float>>(l).c;
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r) sums[r] += c[g + 8 * (r >> 1)][2 * t + (r & 1)];
  }
  ++lanes.warp.block->counters.mma;
}

void mma_f16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site) {
  static const Collective kMmaF16{"mma_f16", true, fold_float<widen_f16>};
  Mma<float> operands{&c, &a, &b};
  collect(kMmaF16, kWholeWarp, &operands, site);
}

void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], Site site) {
  static const Collective kMmaBf16{"mma_bf16", true, fold_float<widen_bf16>};
  Mma<float> operands{&c, &a, &b};
  collect(kMmaBf16, kWholeWarp, &operands, site);
}

// --- ldmatrix ---

namespace {
struct Ldmatrix {
  std::uint32_t* registers;
  const unsigned char* row;
};
}  // namespace

// The 8 rows of a matrix go out together if no two of them want different words of one bank: 32 banks of 4 bytes, so a
// row takes one of eight columns of banks.
static int conflicts(const unsigned char* const (&rows)[8]) {
  const auto column = [](const unsigned char* row) { return reinterpret_cast<std::uintptr_t>(row) / 16 % 8; };
  unsigned columns = 0;
  for (const unsigned char* row : rows) columns |= 1u << column(row);
  if (columns == 0xff) return 0;
  std::array<int, 8> rows_of{};
  for (int j = 0; j < 8; ++j) {
    // A row that is asked for twice is read once.
    if (std::find(rows, rows + j, rows[j]) == rows + j) ++rows_of[column(rows[j])];
  }
  return *std::max_element(rows_of.begin(), rows_of.end()) - 1;
}

static void transpose(std::uint16_t (&matrix)[8][8]) {
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < i; ++j) std::swap(matrix[i][j], matrix[j][i]);
  }
}

template <int kMatrices, bool kTransposed>
static void fold_ldmatrix(const Gathered& lanes) {
  Counters& counters = lanes.warp.block->counters;
  counters.ldmatrix += kMatrices;
  for (int m = 0; m < kMatrices; ++m) {
    const unsigned char* rows[8];
    std::uint16_t matrix[8][8];
    for (int j = 0; j < 8; ++j) {
      rows[j] = lanes.of<Ldmatrix>(8 * m + j).row;
      std::memcpy(matrix[j], rows[j], 16);
    }
    counters.ldmatrix_conflicts += conflicts(rows);
    if (kTransposed) transpose(matrix);
    for (int l = 0; l < kWarpLanes; ++l) std::memcpy(&lanes.of<Ldmatrix>(l).registers[m], &matrix[l / 4][l % 4 * 2], 4);
  }
}

template <int kMatrices, bool kTransposed>
static void ldmatrix(std::uint32_t* registers, const void* shared, Site site) {
  static const Collective kLdmatrix{"ldmatrix", true, fold_ldmatrix<kMatrices, kTransposed>};
  // Lanes past the last row bring an address that is not used.
  if (static_cast<int>(self->thread.x % kWarpLanes) < 8 * kMatrices)
    check_shared(shared, 16, 16, "an ldmatrix row", site);
  Ldmatrix operands{registers, static_cast<const unsigned char*>(shared)};
  collect(kLdmatrix, kWholeWarp, &operands, site);
}

void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared, Site site) { ldmatrix<4, false>(r, shared, site); }
void ldmatrix_x2(std::uint32_t (&r)[2], const void* shared, Site site) { ldmatrix<2, false>(r, shared, site); }
void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared, Site site) { ldmatrix<4, true>(r, shared, site); }

}  // namespace cria::cuda::emulation
