// A thread takes one word of the row's (csrc/cuda/pack.h): eight columns of q4_0 and of the K-quants, four of q8_0, two
// of f16 and bf16.
// The words of half a piece stand 16 bytes apart, so of the lines that are read a quarter is used, in q4_0 half of it;
// but what is written is 4 bytes a column, and that bounds it.
#include "embed.h"
#include "four.cuh"
#include "launch.cuh"
#include "quant_rows.h"

namespace cria::cuda {
namespace {

constexpr int kThreads = 256;

// A word of a row: words t = 0 ... 3 of the half piece `half`. `tile` is its tile's superblock, or what of a row stands
// in a fragment.
struct Word {
  std::uint32_t bits;
  int half, t;
  const std::uint8_t* tile;
};

__device__ float half_float(std::uint16_t bits) { return __half2float(__ushort_as_half(bits)); }

__device__ float block_scale_of(const Weights& table, int row, int block) {
  const std::int64_t superblock = static_cast<std::int64_t>(row / 16) * ((table.cols + kSuperblock - 1) / kSuperblock);
  return half_float(table.scales[((superblock + block / 2) * 16 + row % 16) * 2 + block % 2]);
}

// Int8 or the nibbles that begin at bit 4i of a word.
__device__ float nibble(std::uint32_t word, int i) { return static_cast<std::int32_t>(word << (28 - 4 * i)) >> 28; }
__device__ float byte(std::uint32_t word, int i) { return static_cast<std::int32_t>(word << (24 - 8 * i)) >> 24; }

// A type has kHalf, the columns of half a piece; kPieces, the number that the pieces of a row are a multiple of; kBytes
// of 16 rows' piece; and store, which writes the columns of a word.
struct Q4 {
  static constexpr int kHalf = 32, kPieces = 1, kBytes = 512;
  static __device__ void store(const Weights& table, int row, Word word, float* out) {
    const float scale = block_scale_of(table, row, word.half);
    const std::uint32_t bits = word.bits;
    auto* at = reinterpret_cast<float4*>(out + word.half * kHalf + 4 * word.t);
    at[0] =
        make_float4(scale * nibble(bits, 0), scale * nibble(bits, 2), scale * nibble(bits, 4), scale * nibble(bits, 6));
    at[4] =
        make_float4(scale * nibble(bits, 1), scale * nibble(bits, 3), scale * nibble(bits, 5), scale * nibble(bits, 7));
  }
};

struct Q8 {
  static constexpr int kHalf = 16, kPieces = 2, kBytes = 512;
  static __device__ void store(const Weights& table, int row, Word word, float* out) {
    const float scale = block_scale_of(table, row, word.half / 2);
    const std::uint32_t bits = word.bits;
    *reinterpret_cast<float4*>(out + word.half * kHalf + 4 * word.t) =
        make_float4(scale * byte(bits, 0), scale * byte(bits, 1), scale * byte(bits, 2), scale * byte(bits, 3));
  }
};

// What stands for a row of a superblock of a K-quant: the word of its integer scales, and its base.
struct KScales {
  std::uint32_t word;
  float scale, least;

  __device__ KScales(const Weights& table, int row, int superblock) {
    const int n = table.cols / kSuperblock, place = row % 16;
    // Behind a tile's scales stand its bases, one for four superblocks.
    const auto* words =
        reinterpret_cast<const std::uint32_t*>(table.scales) + static_cast<std::int64_t>(row / 16) * (n + n / 4) * 16;
    word = words[superblock * 16 + place];
    const std::uint32_t base = words[(n + superblock / 4) * 16 + place];
    scale = half_float(base & 0xffff);
    least = half_float(base >> 16);
  }

  __device__ int byte(int i) const { return word >> 8 * i & 0xff; }
};

// The upper bits of a word's eight weights: of weight i of the lower or upper four, at its place above the nibble.
__device__ std::uint32_t fifths(const Word& word, int row, bool high) {
  const int lane = row % 8 * 4 + word.t, bit = 4 * (word.half % 2) + 2 * high + row % 16 / 8;
  return reinterpret_cast<const std::uint32_t*>(word.tile + 512)[lane] >> bit << 4 & 0x10101010u;
}
__device__ std::uint32_t pairs(const Word& word, int row, bool high) {
  const int lane = row % 8 * 4 + word.t, bit = 2 * (2 * high + row % 16 / 8);
  return reinterpret_cast<const std::uint32_t*>(word.tile + 512)[2 * lane + word.half % 2] >> bit << 4 & 0x30303030u;
}
__device__ std::uint32_t none(const Word&, int, bool) { return 0; }

// q4_K and q5_K. The products are exact (11 bits of scale, 6 and 5), so that only their difference is rounded.
template <int kTileBytes, std::uint32_t (*upper)(const Word&, int, bool)>
struct KMinimum {
  static constexpr int kHalf = 32, kPieces = 1, kBytes = kTileBytes;
  static __device__ void store(const Weights& table, int row, Word word, float* out) {
    const KScales scales(table, row, word.half / 2);
    const int block = word.half % 2;
    const float step = scales.scale * static_cast<float>(scales.byte(block));
    const float minimum = scales.least * static_cast<float>(scales.byte(2 + block));
    for (int high = 0; high < 2; ++high) {
      const std::uint32_t u = (word.bits >> 4 * high & 0x0f0f0f0fu) | upper(word, row, high != 0);
      const auto weight = [&](int i) { return step * static_cast<float>(u >> 8 * i & 0xff) - minimum; };
      *reinterpret_cast<float4*>(out + word.half * kHalf + 16 * high + 4 * word.t) =
          make_float4(weight(0), weight(1), weight(2), weight(3));
    }
  }
};
using Q4K = KMinimum<512, none>;
using Q5K = KMinimum<640, fifths>;

struct Q6K {
  static constexpr int kHalf = 32, kPieces = 1, kBytes = 768;
  static __device__ void store(const Weights& table, int row, Word word, float* out) {
    const KScales scales(table, row, word.half / 2);
    for (int high = 0; high < 2; ++high) {
      const int group = 2 * (word.half % 2) + high;
      const float step = scales.scale * static_cast<float>(static_cast<std::int8_t>(scales.byte(group)));
      const std::uint32_t u = (word.bits >> 4 * high & 0x0f0f0f0fu) | pairs(word, row, high != 0);
      const auto weight = [&](int i) { return step * static_cast<float>(static_cast<int>(u >> 8 * i & 0xff) - 32); };
      *reinterpret_cast<float4*>(out + word.half * kHalf + 16 * high + 4 * word.t) =
          make_float4(weight(0), weight(1), weight(2), weight(3));
    }
  }
};

template <float (*widen)(std::uint16_t)>
struct Halves {
  static constexpr int kHalf = 8, kPieces = 1, kBytes = 512;
  static __device__ void store(const Weights& table, int, Word word, float* out) {
    const int column = word.half * kHalf + 2 * word.t;
    if (column < table.cols) out[column] = widen(word.bits & 0xffff);
    if (column + 1 < table.cols) out[column + 1] = widen(word.bits >> 16);
  }
};

__device__ float bf16_float(std::uint16_t bits) { return __uint_as_float(static_cast<std::uint32_t>(bits) << 16); }

template <class Type>
__global__ void __launch_bounds__(kThreads) embed_kernel(Embed op) {
  grid_dependency_launch();
  grid_dependency_wait();
  if (static_cast<int>(blockIdx.x) >= *op.rows.count) return;
  const Weights& table = op.table;
  const int index = blockIdx.y * kThreads + threadIdx.x, half = index / 4, t = index % 4;
  if (half * Type::kHalf >= table.cols) return;

  constexpr int kColumns = 2 * Type::kHalf * Type::kPieces;
  const std::int64_t pieces = (table.cols + kColumns - 1) / kColumns * Type::kPieces;
  const int row = op.tokens[blockIdx.x];
  const std::uint8_t* tile = table.quants + (row / 16 * pieces + half / 2) * Type::kBytes;
  const std::uint8_t* lane = tile + (row % 8 * 4 + t) * 16;
  const auto bits = *reinterpret_cast<const std::uint32_t*>(lane + half % 2 * 8 + row % 16 / 8 * 4);
  Type::store(table, row, {bits, half, t, tile}, row_of(op.out, blockIdx.x, table.cols));
}

__global__ void __launch_bounds__(kFourThreads) embed_rows_kernel(Embed op) {
  grid_dependency_launch();
  grid_dependency_wait();
  const int row = blockIdx.x, column = four_column();
  if (row >= *op.rows.count) return;
  const auto* table = reinterpret_cast<const float*>(op.table.quants);
  const float4 four = load_four(row_of(table, op.tokens[row], op.table.cols), column, op.table.cols);
  store_four(row_of(op.out, row, op.table.cols), column, op.table.cols, four);
}

template <class Type>
Status embed_words(const Embed& op, Stream stream) {
  const int words = (op.table.cols + Type::kHalf - 1) / Type::kHalf * 4;
  const dim3 grid(op.rows.capacity, (words + kThreads - 1) / kThreads);
  return launch(embed_kernel<Type>, grid, kThreads, 0, stream, op, Overlap::kYes);
}

}  // namespace

Status embed(const Embed& op, Stream stream) {
  switch (op.table.type) {
    case CRIA_TYPE_Q4_0:
      return embed_words<Q4>(op, stream);
    case CRIA_TYPE_Q8_0:
      return embed_words<Q8>(op, stream);
    case CRIA_TYPE_Q4_K:
      return embed_words<Q4K>(op, stream);
    case CRIA_TYPE_Q5_K:
      return embed_words<Q5K>(op, stream);
    case CRIA_TYPE_Q6_K:
      return embed_words<Q6K>(op, stream);
    case CRIA_TYPE_F16:
      return embed_words<Halves<half_float>>(op, stream);
    case CRIA_TYPE_BF16:
      return embed_words<Halves<bf16_float>>(op, stream);
    default:
      return launch(embed_rows_kernel, four_grid(op.rows.capacity, op.table.cols), kFourThreads, 0, stream, op,
                    Overlap::kYes);
  }
}

}  // namespace cria::cuda
