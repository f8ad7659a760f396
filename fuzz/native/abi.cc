// Calls of the C ABI in any order, with arguments that nobody should give: handles of anything and of nothing, shapes
// that are zero or exceed the address space, types and rows that do not exist, offsets past every end, structs of other
// versions. The one promise that is kept is the caller's: an array is as long as the call says it is, to the byte, so
// that AddressSanitizer sees what is read or written behind it.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "batch.h"
#include "check.h"
#include "input.h"
#include "memory_file.h"

namespace cria::fuzz {
namespace {

// What is kept: larger tensors and caches are made and freed at once, for a call with one would take minutes.
constexpr std::size_t kMostBytes = std::size_t{1} << 20;

// The product, unless arrays of so many bytes, though they could be, are more than a fuzzer has.
// 0 where they could not be: the call must see that by itself, and not touch them.
std::optional<std::size_t> affordable(std::initializer_list<std::size_t> factors) {
  unsigned __int128 product = 1;
  for (const std::size_t factor : factors) {
    product *= factor;
    if (product > std::numeric_limits<std::size_t>::max()) return 0;
  }
  if (product > kMostBytes) return std::nullopt;
  return static_cast<std::size_t>(product);
}

// A struct as a caller of any version hands it: as many bytes as its struct_size says, and at least that field.
template <class T>
class Sized {
 public:
  Sized(Input& input, T value) {
    value.struct_size = static_cast<std::uint32_t>(sizeof(T));
    std::uint8_t newer = 0;
    if (input.rarely()) {
      value.struct_size = input.below(4) == 0 ? input.take<std::uint32_t>() : input.take<std::uint8_t>();
      newer = input.take<std::uint8_t>();
    }
    // Of a size above every struct's nothing but the size is read.
    constexpr std::size_t kLargestStruct = 4096;
    const std::size_t bytes = value.struct_size > kLargestStruct ? sizeof(T) : value.struct_size;
    bytes_.assign(std::max(bytes, sizeof(value.struct_size)), newer);
    std::memcpy(bytes_.data(), &value, std::min(bytes_.size(), sizeof(T)));
    is_null_ = input.rarely();
  }
  T* get() { return is_null_ ? nullptr : reinterpret_cast<T*>(bytes_.data()); }

 private:
  std::vector<std::uint8_t> bytes_;
  bool is_null_ = false;
};

// A batch, of which a count may seldom be of arrays that nobody can have: the call must see that before it reads them.
cria_batch impossible(Input& input, const BatchArrays& arrays) {
  cria_batch batch = view(arrays);
  const std::size_t count = input.hostile_size();
  constexpr std::size_t kAddressSpace = std::size_t{1} << 47;
  if (!input.rarely() || count < kAddressSpace) return batch;
  std::size_t* const counts[] = {&batch.token_count, &batch.sequence_count, &batch.block_count, &batch.output_count};
  *counts[input.below(4)] = count;
  return batch;
}

// All that a caller holds, and the calls that it makes.
class Caller {
 public:
  explicit Caller(Input& input) : input_(input) {
    devices_.add(open_device(CRIA_ISA_AUTO, 1));
    const std::vector<std::uint8_t> content = input_.array<std::uint8_t>(3 * 4096 + 100);
    disk_.emplace(content);
    cria_file* file = nullptr;
    expect(cria_file_open(disk_->path().c_str(), &file) == CRIA_OK, "a file in memory cannot be opened");
    files_.add(File(file));
  }

  void step();

 private:
  // Handles by a number, with empty places among them, whose handle is null.
  template <class Owned>
  class Slots {
   public:
    void add(Owned handle) {
      if (!handle) return;
      slots_[next_] = std::move(handle);
      next_ = (next_ + 1) % slots_.size();
    }
    // The last added, most often.
    typename Owned::pointer pick(Input& input) {
      const std::size_t choice = input.below(16);
      const std::size_t last = (next_ + slots_.size() - 1) % slots_.size();
      return slots_[choice < slots_.size() ? choice : last].get();
    }
    void drop(Input& input) { slots_[input.below(slots_.size())].reset(); }

   private:
    std::array<Owned, 4> slots_;
    std::size_t next_ = 0;
  };

  std::size_t size(std::size_t from, std::size_t to) {
    return input_.rarely() ? input_.hostile_size() : input_.within(from, to);
  }
  template <class T>
  T* or_null(T* pointer) {
    return input_.rarely() ? nullptr : pointer;
  }
  cria_type type() {
    return input_.rarely() ? input_.hostile_int() : kWeightTypes[input_.below(std::size(kWeightTypes))].type;
  }
  cria_type cache_type() { return input_.rarely() ? input_.hostile_int() : kCacheTypes[input_.below(3)]; }
  std::size_t cols(cria_type type) { return is_quantised(type) ? weight_type(type).block * size(1, 4) : size(1, 70); }
  cria_value value() { return input_.rarely() ? input_.hostile_int() : static_cast<cria_value>(input_.below(8)); }

  cria_cache_options cache_options() {
    return {.struct_size = 0,
            .key_type = cache_type(),
            .value_type = cache_type(),
            .layers = size(1, 2),
            .kv_heads = size(1, 2),
            .head_dim = input_.rarely() ? size(0, 255) : 8,
            .blocks = size(1, 12)};
  }
  cria_rope_options rope_options() {
    // As many as a head of 255 dimensions can have pairs: no larger rotary_dim passes.
    frequencies_.assign(128, input_.rarely() ? input_.take<double>() : 0.5);
    return {.struct_size = 0,
            .heads = size(1, 4),
            .rotary_dim = size(0, 16),
            .halves = static_cast<std::int32_t>(input_.below(3)),
            .theta = input_.rarely() ? input_.take<double>() : 10000,
            .scale = input_.rarely() ? input_.take<double>() : 1,
            .frequencies = input_.below(4) == 0 ? frequencies_.data() : nullptr,
            .magnitude = input_.rarely() ? input_.take<double>() : 0};
  }

  void keep(cria_tensor* made) {
    Tensor tensor(made);
    if (cria_tensor_bytes(made) <= kMostBytes) tensors_.add(std::move(tensor));
  }

  void describe();
  void open();
  void measure();
  void open_file();
  void create_matrix();
  void read_matrix();
  void ask_matrix();
  void create_vector();
  void pack();
  void pack_file();
  void pack_int4();
  std::vector<std::int32_t> columns_of(std::size_t end, std::size_t count);
  void unpack();
  void read_packed();
  void fill_random();
  void convert();
  void convert_file();
  void encode();
  void create_cache();
  void read_blocks();
  void write_blocks();
  void move_slots();
  void create_program();
  void record();
  void finish();
  void cancel();
  void run();
  void decode();
  void rmsnorm();
  void quantize();
  void embed();
  void matmul();
  void rope();
  void attention();
  void swiglu();
  void add();
  void drop();

  Input& input_;
  std::optional<MemoryFile> disk_;
  Slots<Device> devices_;
  Slots<File> files_;
  Slots<Tensor> tensors_;
  Slots<Cache> caches_;
  Slots<Program> programs_;
  Slots<Cancel> cancels_;
  std::vector<double> frequencies_;  // of the last options of RoPE
};

// Devices

void Caller::describe() {
  Sized<cria_device_info> info(input_, {});
  if (input_.below(2) == 0) {
    succeeded(cria_device_get_info(devices_.pick(input_), info.get()));
    return;
  }
  const cria_device_kind kind = input_.rarely() ? input_.hostile_int() : CRIA_DEVICE_CPU;
  // What there is of a GPU is asked once, and is no part of this.
  if (kind == CRIA_DEVICE_CPU || kind < 0 || kind >= CRIA_DEVICE_KINDS) {
    succeeded(cria_device_describe(kind, info.get()));
  }
}

void Caller::open() {
  constexpr std::uint32_t kMostThreads = 256;  // as cria_device_options has it
  std::uint32_t threads = input_.rarely() ? input_.take<std::uint32_t>() : 1;
  if (threads <= kMostThreads) threads = threads % 2 + 1;  // more would only wait for one another
  const cria_isa isa = input_.rarely() ? input_.hostile_int() : static_cast<cria_isa>(input_.below(4));
  cria_device_kind kind = input_.rarely() ? input_.hostile_int() : CRIA_DEVICE_CPU;
  if (kind > 0 && kind < CRIA_DEVICE_KINDS) kind = CRIA_DEVICE_CPU;
  Sized<cria_device_options> options(input_, {.struct_size = 0, .kind = kind, .isa = isa, .threads = threads});
  cria_device* device = nullptr;
  succeeded(cria_device_open(options.get(), or_null(&device)));
  devices_.add(Device(device));
}

// Nothing is measured, which would take seconds: one argument is wrong.
void Caller::measure() {
  constexpr std::uint32_t kMostSamples = 1 << 20;
  const std::uint32_t samples = input_.rarely() ? kMostSamples + 1 + input_.take<std::uint16_t>() : 1;
  const cria_limit limit = input_.hostile_int();
  double rate;
  if (samples == 1 && limit >= 0 && limit < CRIA_LIMITS) return;
  expect(!succeeded(cria_measure_limit(devices_.pick(input_), limit, samples, or_null(&rate))), "nothing is measured");
}

// Tensors

void Caller::open_file() {
  constexpr const char* kPaths[] = {"/proc/self/fd", "/dev/null", "/", "", "/no/such/file", "/proc/self/exe", nullptr};
  const std::string ours = disk_->path();
  const std::size_t choice = input_.below(16);
  cria_file* file = nullptr;
  succeeded(cria_file_open(choice < std::size(kPaths) ? kPaths[choice] : ours.c_str(), or_null(&file)));
  files_.add(File(file));
}

void Caller::create_matrix() {
  const cria_type type = this->type();
  cria_tensor* tensor = nullptr;
  const std::size_t rows = size(1, 50), cols = this->cols(type);
  std::size_t bytes = 0;
  if (!succeeded(cria_matrix_create(devices_.pick(input_), type, rows, cols, or_null(&tensor)))) return;
  expect(cria_matrix_bytes(CRIA_DEVICE_CPU, type, rows, cols, &bytes) == CRIA_OK && bytes == cria_tensor_bytes(tensor),
         "a matrix has not the bytes that it should take");
  keep(tensor);
}

void Caller::read_matrix() {
  const cria_type type = this->type();
  cria_tensor* tensor = nullptr;
  const std::uint64_t offset = input_.rarely() ? input_.hostile_size() : 64 * input_.below(256);
  const auto make = input_.below(2) == 0 ? cria_matrix_map : cria_matrix_read;
  succeeded(make(devices_.pick(input_), type, size(1, 40), cols(type), files_.pick(input_), offset, or_null(&tensor)));
  keep(tensor);
}

void Caller::ask_matrix() {
  const cria_type type = this->type();
  const cria_device_kind kind = input_.rarely() ? input_.hostile_int() : static_cast<cria_device_kind>(input_.below(3));
  std::size_t bytes;
  std::uint32_t version;
  succeeded(cria_matrix_bytes(kind, type, size(1, 50), cols(type), or_null(&bytes)));
  succeeded(cria_matrix_layout(kind, or_null(&version)));
}

void Caller::create_vector() {
  cria_tensor* tensor = nullptr;
  succeeded(cria_vector_create(devices_.pick(input_), type(), size(1, 100), or_null(&tensor)));
  keep(tensor);
}

// Rows of a tensor, with the bytes that they take unless the input says otherwise.
struct Rows {
  std::size_t row, count, bytes;
};

Rows read_rows(Input& input, const cria_tensor* tensor, std::size_t row_bytes) {
  const std::size_t all = cria_tensor_rows(tensor);
  Rows rows{.row = 0, .count = all, .bytes = 0};
  if (input.below(2) == 0) rows.row = input.rarely() ? input.hostile_size() : input.below(60);
  if (input.below(2) == 0) rows.count = input.rarely() ? input.hostile_size() : input.below(60);
  rows.bytes = rows.count * row_bytes;
  if (input.rarely()) rows.bytes = input.below(256);
  return rows;
}

// Of any type's row: what a call takes for one is found out by asking for each.
std::size_t guess_row_bytes(Input& input, const cria_tensor* tensor) {
  return row_bytes(kWeightTypes[input.below(std::size(kWeightTypes))].type, cria_tensor_cols(tensor));
}

void Caller::pack() {
  cria_tensor* tensor = tensors_.pick(input_);
  const Rows rows = read_rows(input_, tensor, guess_row_bytes(input_, tensor));
  if (rows.bytes > kMostBytes) return;
  const auto data = input_.array<std::uint8_t>(rows.bytes);
  succeeded(cria_tensor_pack(tensor, rows.row, rows.count, or_null(data.data()), data.size()));
}

void Caller::pack_file() {
  cria_tensor* tensor = tensors_.pick(input_);
  const Rows rows = read_rows(input_, tensor, 0);
  const std::uint64_t offset = input_.rarely() ? input_.hostile_size() : input_.take<std::uint16_t>();
  succeeded(cria_tensor_pack_file(tensor, rows.row, rows.count, files_.pick(input_), offset));
}

// Indices below `end`, or -1.
std::vector<std::int32_t> Caller::columns_of(std::size_t end, std::size_t count) {
  std::vector<std::int32_t> columns(count);
  for (std::int32_t& column : columns) {
    column = input_.rarely() ? input_.hostile_int() : static_cast<std::int32_t>(input_.below(end + 1)) - 1;
  }
  return columns;
}

void Caller::pack_int4() {
  cria_tensor* tensor = tensors_.pick(input_);
  const std::size_t cols = cria_tensor_cols(tensor);
  const std::size_t inputs = 8 * input_.below(6), outputs = 8 * input_.below(4), groups = 1 + input_.below(3);
  const auto weights = input_.array<std::int32_t>(inputs * outputs / 8);
  const auto zeros = input_.array<std::int32_t>(groups * outputs / 8);
  const auto scales = input_.array<std::uint16_t>(groups * outputs);
  const auto columns = columns_of(inputs, cols);
  auto column_groups = columns_of(groups, cols / 32);
  Sized<cria_int4> matrix(input_, {.layout = static_cast<cria_int4_layout>(input_.below(3)),
                                   .zero_offset = static_cast<std::uint32_t>(input_.below(3)),
                                   .inputs = inputs,
                                   .outputs = outputs,
                                   .groups = groups,
                                   .weights = or_null(weights.data()),
                                   .zeros = or_null(zeros.data()),
                                   .scales = or_null(scales.data()),
                                   .columns = or_null(columns.data()),
                                   .column_groups = or_null(column_groups.data())});
  succeeded(cria_tensor_pack_int4(tensor, input_.rarely() ? input_.hostile_size() : input_.below(40), matrix.get()));
}

void Caller::unpack() {
  cria_tensor* tensor = tensors_.pick(input_);
  const Rows rows = read_rows(input_, tensor, guess_row_bytes(input_, tensor));
  if (rows.bytes > kMostBytes) return;
  std::vector<std::uint8_t> data(rows.bytes);
  succeeded(cria_tensor_unpack(tensor, rows.row, rows.count, or_null(data.data()), data.size()));
}

void Caller::read_packed() {
  cria_tensor* tensor = tensors_.pick(input_);
  const std::size_t bytes = input_.take<std::uint16_t>();
  std::vector<std::uint8_t> data(bytes);
  succeeded(cria_tensor_read_packed(tensor, input_.rarely() ? input_.hostile_size() : input_.take<std::uint16_t>(),
                                    or_null(data.data()), bytes));
}

void Caller::fill_random() {
  const float deviation = input_.rarely() ? input_.take<float>() : 1;
  succeeded(cria_tensor_fill_random(tensors_.pick(input_), input_.take<std::uint64_t>(), deviation));
}

// Weight types

void Caller::convert() {
  cria_tensor* tensor = tensors_.pick(input_);
  const cria_type from = type();
  const std::size_t cols = cria_tensor_cols(tensor);
  const Rows rows = read_rows(input_, tensor, row_bytes(from, cols));
  if (rows.bytes > kMostBytes) return;
  const auto data = input_.array<std::uint8_t>(rows.bytes);
  succeeded(cria_tensor_convert(tensor, rows.row, rows.count, from, or_null(data.data()), data.size()));
}

void Caller::convert_file() {
  cria_tensor* tensor = tensors_.pick(input_);
  const Rows rows = read_rows(input_, tensor, 0);
  const std::uint64_t offset = input_.rarely() ? input_.hostile_size() : input_.take<std::uint16_t>();
  succeeded(cria_tensor_convert_file(tensor, rows.row, rows.count, files_.pick(input_), offset, type()));
}

// What was encoded decodes to numbers.
void Caller::encode() {
  const cria_type type = this->type();
  const std::size_t rows = size(0, 3), cols = this->cols(type);
  const auto floats = affordable({rows, cols, sizeof(float)});
  if (!floats) return;
  const auto x = input_.array<float>(*floats / sizeof(float));
  std::vector<std::uint8_t> bytes(input_.rarely() ? input_.below(256)
                                  : *floats == 0  ? 0
                                                  : rows * row_bytes(type, cols));
  if (!succeeded(cria_weights_encode(devices_.pick(input_), type, rows, cols, or_null(x.data()), or_null(bytes.data()),
                                     bytes.size()))) {
    return;
  }
  std::vector<float> out(x.size());
  expect(cria_weights_decode(type, rows, cols, bytes.data(), bytes.size(), out.data()) == CRIA_OK,
         "what was encoded cannot be decoded");
  expect(std::all_of(out.begin(), out.end(), [](float value) { return std::isfinite(value); }),
         "finite weights became others");
}

// The KV cache

void Caller::create_cache() {
  Sized<cria_cache_options> options(input_, cache_options());
  cria_cache* made = nullptr;
  succeeded(cria_cache_create(devices_.pick(input_), options.get(), or_null(&made)));
  Cache cache(made);
  if (cria_cache_bytes(made) <= kMostBytes) caches_.add(std::move(cache));
}

std::vector<std::int32_t> read_blocks_of(Input& input) {
  std::vector<std::int32_t> blocks(input.below(5));
  for (std::int32_t& block : blocks) {
    block = input.rarely() ? input.hostile_int() : static_cast<std::int32_t>(input.below(12));
  }
  return blocks;
}

void Caller::read_blocks() {
  cria_cache* cache = caches_.pick(input_);
  const auto blocks = read_blocks_of(input_);
  std::vector<std::uint8_t> data(input_.rarely() ? input_.below(256) : blocks.size() * cria_cache_block_bytes(cache));
  succeeded(cria_cache_read(cache, blocks.size(), or_null(blocks.data()), or_null(data.data()), data.size()));
}

void Caller::write_blocks() {
  cria_cache* cache = caches_.pick(input_);
  const auto blocks = read_blocks_of(input_);
  const auto data =
      input_.array<std::uint8_t>(input_.rarely() ? input_.below(256) : blocks.size() * cria_cache_block_bytes(cache));
  succeeded(cria_cache_write(cache, blocks.size(), or_null(blocks.data()), or_null(data.data()), data.size()));
}

void Caller::move_slots() {
  std::vector<std::int32_t> from(input_.below(20)), to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    from[i] = input_.rarely() ? input_.hostile_int() : input_.take<std::uint8_t>();
    to[i] = input_.rarely() ? input_.hostile_int() : static_cast<std::int32_t>(i);
  }
  const std::int32_t shift = input_.rarely() ? input_.hostile_int() : static_cast<std::int32_t>(input_.below(3)) - 1;
  Sized<cria_rope_options> rope(input_, rope_options());
  succeeded(
      cria_cache_move(caches_.pick(input_), from.size(), or_null(from.data()), or_null(to.data()), shift, rope.get()));
}

// Programs

void Caller::create_program() {
  Sized<cria_cache_options> options(input_, cache_options());
  cria_program* program = nullptr;
  succeeded(cria_program_create(devices_.pick(input_), options.get(), or_null(&program)));
  programs_.add(Program(program));
}

void Caller::record() {
  cria_program* p = programs_.pick(input_);
  const cria_tensor* weight = tensors_.pick(input_);
  const float eps = input_.rarely() ? input_.take<float>() : 1e-5f;
  cria_value made;
  switch (input_.below(12)) {
    case 0:
    case 1: {
      const cria_rows rows = input_.rarely() ? input_.hostile_int() : static_cast<cria_rows>(input_.below(2));
      succeeded(cria_program_value(p, rows, size(1, 100), or_null(&made)));
      return;
    }
    case 2:
      succeeded(cria_program_embed(p, weight, value()));
      return;
    case 3:
      succeeded(cria_program_rmsnorm(p, value(), weight, eps, value()));
      return;
    case 4:
      succeeded(cria_program_matmul(p, value(), weight, value(), size(0, 8)));
      return;
    case 5:
      succeeded(cria_program_matmul_add(p, value(), weight, value()));
      return;
    case 6:
      succeeded(cria_program_matmul_swiglu(p, value(), weight, value()));
      return;
    case 7: {
      Sized<cria_rope_options> options(input_, rope_options());
      succeeded(cria_program_rope(p, value(), size(0, 1), options.get()));
      return;
    }
    case 8:
      succeeded(cria_program_attention(p, value(), size(0, 1), size(1, 4), value()));
      return;
    case 9:
      succeeded(cria_program_swiglu(p, value(), value()));
      return;
    case 10:
      succeeded(
          cria_program_prefix_attention(p, value(), weight, tensors_.pick(input_), tensors_.pick(input_), value()));
      return;
    default:
      if (input_.below(2) == 0) {
        succeeded(cria_program_add(p, value(), value(), value()));
      } else if (input_.below(2) == 0) {
        succeeded(cria_program_select(p, value(), value()));
      } else {
        const auto columns = columns_of(100, input_.below(100));
        succeeded(cria_program_gather(p, value(), or_null(columns.data()), columns.size(), value()));
      }
  }
}

void Caller::finish() { succeeded(cria_program_finish(programs_.pick(input_), value())); }

void Caller::cancel() {
  if (input_.below(2) == 0) return cria_cancel_trigger(cancels_.pick(input_));
  cria_cancel* cancel = nullptr;
  succeeded(cria_cancel_create(or_null(&cancel)));
  cancels_.add(Cancel(cancel));
}

void Caller::run() {
  BatchArrays arrays = read_batch(input_, 12, 50, 18);
  if (input_.below(4) == 0) spoil(input_, arrays);
  Sized<cria_batch> batch(input_, impossible(input_, arrays));
  std::vector<float> result(input_.below(256));
  succeeded(cria_program_run(programs_.pick(input_), caches_.pick(input_), batch.get(), cancels_.pick(input_),
                             or_null(result.data()), result.size()));
}

// An array of structs, which lie as far apart as the first says that it is long.
std::vector<std::uint8_t> read_sampling(Input& input, std::size_t sequences) {
  const std::size_t size = input.rarely() ? input.below(256) : sizeof(cria_sampling);
  std::vector<std::uint8_t> bytes(sequences * std::max(size, sizeof(cria_sampling)));
  for (std::size_t i = 0; i < sequences; ++i) {
    const cria_sampling how{
        .struct_size = static_cast<std::uint32_t>(i > 0 && input.rarely() ? input.below(256) : size),
        .temperature = input.rarely() ? input.take<float>() : 1,
        .top_p = input.rarely() ? input.take<float>() : 1,
        .seed = input.take<std::uint64_t>()};
    std::memcpy(bytes.data() + i * std::max(size, sizeof(how)), &how, sizeof(how));
  }
  return bytes;
}

void Caller::decode() {
  BatchArrays arrays = read_batch(input_, 12, 50, 1);
  if (input_.below(4) == 0) spoil(input_, arrays);
  const std::size_t sequences = arrays.lengths.size(), steps = size(0, 4);
  Sized<cria_batch> batch(input_, view(arrays));
  auto sampling = read_sampling(input_, sequences);
  const auto count = affordable({sequences, steps, sizeof(std::int32_t)});
  if (!count) return;
  std::vector<std::int32_t> tokens(*count / sizeof(std::int32_t));
  const auto candidates = input_.rarely() ? input_.take<std::uint32_t>() : static_cast<std::uint32_t>(input_.below(5));
  succeeded(cria_program_decode(programs_.pick(input_), caches_.pick(input_), batch.get(), candidates,
                                or_null(reinterpret_cast<const cria_sampling*>(sampling.data())), steps,
                                cancels_.pick(input_), or_null(tokens.data())));
}

// Single kernels

void Caller::rmsnorm() {
  const std::size_t rows = size(0, 3), dim = size(0, 70);
  const auto x_bytes = affordable({rows, dim, sizeof(float)}), weight_bytes = affordable({dim, sizeof(float)});
  if (!x_bytes || !weight_bytes) return;
  const auto x = input_.array<float>(*x_bytes / sizeof(float)), weight = input_.array<float>(*weight_bytes / 4);
  std::vector<float> out(x.size());
  succeeded(cria_rmsnorm(devices_.pick(input_), rows, dim, or_null(x.data()), or_null(weight.data()),
                         input_.rarely() ? input_.take<float>() : 1e-5f, or_null(out.data())));
}

void Caller::quantize() {
  const std::size_t rows = size(0, 3), dim = size(0, 100), stride = dim + (64 - dim % 64) % 64;
  const auto x_bytes = affordable({rows, dim, sizeof(float)}), quant_bytes = affordable({rows, stride});
  if (!x_bytes || !quant_bytes) return;
  const auto x = input_.array<float>(*x_bytes / sizeof(float));
  std::vector<std::int8_t> quants(*quant_bytes);
  std::vector<float> scales(*quant_bytes / 32);
  std::vector<std::int32_t> sums(*quant_bytes / 32);
  succeeded(cria_quantize(devices_.pick(input_), rows, dim, or_null(x.data()), or_null(quants.data()),
                          or_null(scales.data()), or_null(sums.data())));
}

void Caller::embed() {
  const cria_tensor* table = tensors_.pick(input_);
  std::vector<std::int32_t> tokens(input_.below(5));
  for (std::int32_t& token : tokens) {
    token = input_.rarely() ? input_.hostile_int() : static_cast<std::int32_t>(input_.below(50));
  }
  std::vector<float> out(tokens.size() * cria_tensor_cols(table));
  succeeded(cria_embed(devices_.pick(input_), table, tokens.size(), or_null(tokens.data()), or_null(out.data())));
}

void Caller::matmul() {
  const cria_tensor* weight = tensors_.pick(input_);
  const std::size_t tokens = size(0, 9);
  const auto x_bytes = affordable({tokens, cria_tensor_cols(weight), sizeof(float)});
  const auto out_bytes = affordable({tokens, cria_tensor_rows(weight), sizeof(float)});
  if (!x_bytes || !out_bytes) return;
  const auto x = input_.array<float>(*x_bytes / sizeof(float));
  std::vector<float> out(*out_bytes / sizeof(float));
  succeeded(cria_matmul(devices_.pick(input_), weight, tokens, or_null(x.data()), or_null(out.data())));
}

// A layer of a cache whose K and V are as long as it says.
struct LayerArrays {
  cria_kv_layer layer;
  std::vector<std::uint8_t> k, v;
};

std::optional<LayerArrays> read_layer(Input& input, const cria_cache_options& shape) {
  const auto bytes = [&](cria_type type) {
    const std::size_t scales = type == CRIA_TYPE_Q8_0 ? (shape.head_dim + 31) / 32 * 2 : 0;
    const std::size_t element = type == CRIA_TYPE_F32 ? 4 : type == CRIA_TYPE_F16 ? 2 : 1;
    const auto elements = affordable({shape.blocks, shape.kv_heads, CRIA_KV_BLOCK, shape.head_dim, element});
    const auto behind = affordable({shape.blocks, shape.kv_heads, CRIA_KV_BLOCK, scales});
    return elements && behind ? std::optional(*elements + *behind) : std::nullopt;
  };
  const auto k = bytes(shape.key_type), v = bytes(shape.value_type);
  if (!k || !v) return std::nullopt;
  LayerArrays arrays{.layer = {}, .k = input.array<std::uint8_t>(*k), .v = input.array<std::uint8_t>(*v)};
  arrays.layer = {.struct_size = 0,
                  .key_type = shape.key_type,
                  .value_type = shape.value_type,
                  .blocks = shape.blocks,
                  .kv_heads = shape.kv_heads,
                  .head_dim = shape.head_dim,
                  .k = arrays.k.data(),
                  .v = arrays.v.data()};
  return arrays;
}

void Caller::rope() {
  auto layer = read_layer(input_, cache_options());
  if (!layer) return;
  BatchArrays arrays = read_batch(input_, 12, 1, 18);
  if (input_.below(4) == 0) spoil(input_, arrays);
  Sized<cria_batch> batch(input_, view(arrays));
  const cria_rope_options rope = rope_options();
  Sized<cria_rope_options> options(input_, rope);
  Sized<cria_kv_layer> cache(input_, layer->layer);
  const auto heads = affordable({layer->layer.kv_heads, 2});
  const auto bytes =
      heads ? affordable({arrays.tokens.size(), rope.heads + *heads, layer->layer.head_dim, 4}) : std::nullopt;
  if (!bytes) return;
  auto qkv = input_.array<float>(*bytes / sizeof(float));
  succeeded(cria_rope(devices_.pick(input_), batch.get(), options.get(), cache.get(), or_null(qkv.data())));
}

void Caller::attention() {
  auto layer = read_layer(input_, cache_options());
  if (!layer) return;
  BatchArrays arrays = read_batch(input_, 12, 1, 18);
  if (input_.below(4) == 0) spoil(input_, arrays);
  Sized<cria_batch> batch(input_, impossible(input_, arrays));
  Sized<cria_kv_layer> cache(input_, layer->layer);
  const std::size_t heads = size(1, 4), width = heads * layer->layer.head_dim,
                    stride = input_.below(2) == 0 ? width : size(0, 64);
  const auto q_bytes = affordable({arrays.tokens.size(), stride, sizeof(float)});
  const auto out_bytes = affordable({arrays.tokens.size(), heads, layer->layer.head_dim, sizeof(float)});
  if (!q_bytes || !out_bytes) return;
  const auto q = input_.array<float>(*q_bytes / sizeof(float));
  std::vector<float> out(*out_bytes / sizeof(float));
  succeeded(cria_attention(devices_.pick(input_), batch.get(), heads, cache.get(), or_null(q.data()), stride,
                           or_null(out.data())));
}

void Caller::swiglu() {
  const std::size_t rows = size(0, 3), dim = size(0, 70);
  const auto in_bytes = affordable({rows, dim, 2, sizeof(float)});
  if (!in_bytes) return;
  const auto gate_up = input_.array<float>(*in_bytes / sizeof(float));
  std::vector<float> out(gate_up.size() / 2);
  succeeded(cria_swiglu(devices_.pick(input_), rows, dim, or_null(gate_up.data()), or_null(out.data())));
}

void Caller::add() {
  const std::size_t count = size(0, 255);
  const auto bytes = affordable({count, sizeof(float)});
  if (!bytes) return;
  const auto x = input_.array<float>(*bytes / sizeof(float)), y = input_.array<float>(x.size());
  std::vector<float> out(x.size());
  succeeded(cria_add(devices_.pick(input_), count, or_null(x.data()), or_null(y.data()), or_null(out.data())));
}

// In any order: what needs a handle keeps what is behind it.
void Caller::drop() {
  switch (input_.below(6)) {
    case 0:
      return devices_.drop(input_);
    case 1:
      return files_.drop(input_);
    case 2:
      return tensors_.drop(input_);
    case 3:
      return caches_.drop(input_);
    case 4:
      return programs_.drop(input_);
    default:
      return cancels_.drop(input_);
  }
}

void Caller::step() {
  using Call = void (Caller::*)();
  constexpr Call kCalls[] = {
      &Caller::describe,      &Caller::open,        &Caller::measure,      &Caller::open_file,
      &Caller::create_matrix, &Caller::read_matrix, &Caller::ask_matrix,   &Caller::create_vector,
      &Caller::pack,          &Caller::pack_file,   &Caller::unpack,       &Caller::read_packed,
      &Caller::fill_random,   &Caller::convert,     &Caller::convert_file, &Caller::encode,
      &Caller::create_cache,  &Caller::read_blocks, &Caller::write_blocks, &Caller::move_slots,
      &Caller::record,        &Caller::record,      &Caller::record,       &Caller::create_program,
      &Caller::finish,        &Caller::cancel,      &Caller::run,          &Caller::decode,
      &Caller::rmsnorm,       &Caller::quantize,    &Caller::embed,        &Caller::matmul,
      &Caller::rope,          &Caller::attention,   &Caller::swiglu,       &Caller::add,
      &Caller::drop,          &Caller::pack_int4};
  (this->*kCalls[input_.below(std::size(kCalls))])();
}

}  // namespace
}  // namespace cria::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cria::fuzz::Input input(data, size);
  cria::fuzz::Caller caller(input);
  for (int steps = 0; steps < 60 && !input.empty(); ++steps) caller.step();
  return 0;
}
