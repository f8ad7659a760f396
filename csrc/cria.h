/* The C interface of cria: all that another language imports, and all that the Node.js addon calls.
 *
 * Conventions
 *   - Functions return a cria_status unless they cannot fail; CRIA_OK is 0. After any other, cria_last_error() has one
 *     sentence that names the argument, what it was and what was expected. Any may fail with CRIA_ERROR_ARGUMENT,
 *     CRIA_ERROR_MEMORY or CRIA_ERROR_INTERNAL, and what works on a GPU with CRIA_ERROR_DEVICE; other errors are named
 *     where they can come.
 *   - A failed call makes no handle. After CRIA_ERROR_ARGUMENT and CRIA_ERROR_UNSUPPORTED it has changed nothing; after
 *     other errors what it was to write, be it an array, a tensor, a program or blocks of a cache, is undefined.
 *   - Handles are opaque, reference-counted inside and freed by their cria_*_free function, which takes null. A program
 *     keeps its tensors, a tensor its device: handles may be freed in any order. What a handle holds is given back when
 *     it and all that keeps it are freed. What is given to a call together is of one kind of device.
 *   - Sizes are size_t and count elements unless named `bytes`; offsets count bytes. Each size of a tensor, a cache, a
 *     batch or a program is below 2^31. Arrays are row-major, without padding, and no two arguments may overlap unless
 *     a function says so; an array of no elements may be null. Token ids, positions and blocks are int32_t. Arrays are
 *     the caller's, and are not looked at after the call.
 *   - Any function may be called from any thread. Calls on one handle may overlap, except that a handle must not be
 *     freed while a call uses it, that a tensor is packed, or filled, by one call at a time and not while it is read,
 *     and that a program is recorded and finished by one thread, before it runs. Runs that overlap must not write to
 *     blocks of a cache that others of them use. Runs and kernels share one pool of threads, so they take turns, and
 *     may be waited for. The pool's threads are sent no signals. A process that is forked during a call must not call
 *     cria in the child.
 *   - No C++ type and no exception crosses this interface.
 *
 * Version 1 is frozen: what is written here keeps its meaning, its layout and its values in every later library of
 * version 1. There may then be more functions, more values of an enum, and more fields at the end of a struct, where 0
 * means what the lack of the field meant. So a caller takes every status but CRIA_OK for a failure, and a library that
 * does not know a value refuses it (CRIA_ERROR_ARGUMENT). Structs begin with struct_size, which the caller sets to the
 * sizeof that it was compiled with, the same in all of an array: an older caller's missing fields count as 0, and a
 * newer caller's unknown fields must be 0 (CRIA_ERROR_UNSUPPORTED where one is not), and are set to 0 in what a
 * function fills.
 */
#ifndef CRIA_H_
#define CRIA_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(CRIA_BUILD)
#define CRIA_API __declspec(dllexport)
#else
#define CRIA_API __declspec(dllimport)
#endif
#else
#define CRIA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version and errors ------------------------------------------------------------------------------------------ */

#define CRIA_ABI_VERSION 1

/* The CRIA_ABI_VERSION that the library was built with. One of another version than the caller's must not be used. */
CRIA_API uint32_t cria_abi_version(void);

typedef int32_t cria_status;
enum {
  CRIA_OK = 0,
  CRIA_ERROR_ARGUMENT = 1,    /* an argument is outside what its function takes */
  CRIA_ERROR_MEMORY = 2,      /* the system has not the memory asked for */
  CRIA_ERROR_FILE = 3,        /* a file cannot be opened or read, or is shorter than it should be */
  CRIA_ERROR_UNSUPPORTED = 4, /* this machine or this build cannot do it */
  CRIA_ERROR_ABORTED = 5,     /* a run was cancelled; what it had written to the cache is undefined */
  CRIA_ERROR_INTERNAL = 6,    /* a fault of cria itself */
  CRIA_ERROR_DEVICE = 7, /* the GPU failed; where the sentence says so, it cannot be used any more in this process */
  CRIA_ERROR_NUMBERS = 8 /* a weight is NaN, infinite, or too large for the type that it is to have */
};

/* The sentence of the last failure on this thread; "" before the first. Valid until the next failure on this thread. */
CRIA_API const char* cria_last_error(void);

/* ---- Devices ----------------------------------------------------------------------------------------------------- */

typedef int32_t cria_device_kind;
enum {
  CRIA_DEVICE_CPU = 0,
  CRIA_DEVICE_CUDA = 1,         /* the first GPU that the process is shown */
  CRIA_DEVICE_CUDA_EMULATED = 2 /* the same kernels on the CPU, slowly: for tests, where the library was built so */
};
#define CRIA_DEVICE_KINDS 3 /* those above; a library may know more */

typedef int32_t cria_isa;
enum { CRIA_ISA_AUTO = 0, CRIA_ISA_SCALAR = 1, CRIA_ISA_AVX2 = 2, CRIA_ISA_AVX512 = 3 };

typedef struct cria_device_info {
  uint32_t struct_size;
  cria_device_kind kind;
  int32_t available;        /* 0: `reason` says why not, and the fields after it are 0 */
  char name[96];            /* of the processor or the GPU */
  char reason[512];         /* of it as much as fits */
  cria_isa isa;             /* that it runs, or would choose; 0 of a GPU, as are the next two */
  uint32_t isas;            /* bit i set: cria_isa i can be asked for */
  uint32_t threads;         /* that it uses, or would by default */
  uint64_t memory_bytes;    /* of the machine, or the limit of this process's control group where that is lower; of a
                               GPU its own */
  uint64_t available_bytes; /* of those, what can be taken without swapping; of a GPU that is not opened, all */
} cria_device_info;

/* What a device of `kind` would be, opened with nothing asked for. One that is not there is no error, but described as
 * not available. The caller sets info->struct_size. */
CRIA_API cria_status cria_device_describe(cria_device_kind kind, cria_device_info* info);

typedef struct cria_device cria_device;
typedef struct cria_device_options {
  uint32_t struct_size;
  cria_device_kind kind;
  cria_isa isa;     /* CRIA_ISA_AUTO: the best that the processor has. A GPU goes by neither this nor `threads` */
  uint32_t threads; /* at most 256; 0: the physical cores in the affinity mask, or the control group's quota rounded
                       down where that is lower, and at least 1 */
} cria_device_options;

/* CRIA_ERROR_UNSUPPORTED where there is no such device, or the processor has not that instruction set. */
CRIA_API cria_status cria_device_open(const cria_device_options* options, cria_device** device);
/* What a device is, as it was opened; available_bytes are those of the moment. The caller sets info->struct_size. */
CRIA_API cria_status cria_device_get_info(const cria_device* device, cria_device_info* info);
CRIA_API void cria_device_free(cria_device* device);

/* What a machine does at most: the denominators for every figure of speed. A multiply-add is two operations. */
typedef int32_t cria_limit;
enum {
  CRIA_LIMIT_READ = 0,    /* bytes read from memory */
  CRIA_LIMIT_COPY = 1,    /* bytes read from memory plus bytes written, past the caches */
  CRIA_LIMIT_FMA = 2,     /* vfmadd231ps, in the widest registers that the device's kernels use */
  CRIA_LIMIT_MADDUBS = 3, /* vpmaddubsw with vpaddw, 256 bits wide: int8 products summed in int16 */
  CRIA_LIMIT_DPBUSD = 4,  /* vpdpbusd, 512 bits wide: int8 products summed in int32 */
  CRIA_LIMIT_BF16DOT = 5  /* vdpbf16ps, 512 bits wide */
};
#define CRIA_LIMITS 6 /* those above; a library may know more */

/* Measures a limit `samples` times (at most 2^20) with all of the device's threads: rates[i] is in bytes or operations
 * a second. READ and COPY take 512 MiB meanwhile. CRIA_ERROR_UNSUPPORTED where the processor, or the instruction set
 * that the device was opened with, lacks the instruction; a GPU has READ and COPY alone. */
CRIA_API cria_status cria_measure_limit(cria_device* device, cria_limit limit, uint32_t samples, double* rates);

/* ---- Tensors: weights, in the device's own layout ------------------------------------------------------------------
 */

/* The values are GGUF's type ids, but for the last. */
typedef int32_t cria_type;
enum {
  CRIA_TYPE_F32 = 0,
  CRIA_TYPE_F16 = 1,
  CRIA_TYPE_Q4_0 = 2,
  CRIA_TYPE_Q4_1 = 3,
  CRIA_TYPE_Q5_0 = 6,
  CRIA_TYPE_Q5_1 = 7,
  CRIA_TYPE_Q8_0 = 8,
  CRIA_TYPE_Q2_K = 10,
  CRIA_TYPE_Q3_K = 11,
  CRIA_TYPE_Q4_K = 12,
  CRIA_TYPE_Q5_K = 13,
  CRIA_TYPE_Q6_K = 14,
  CRIA_TYPE_IQ4_NL = 20,
  CRIA_TYPE_BF16 = 30,
  CRIA_TYPE_Q4_Z = 1000 /* cria's own, for GPTQ and AWQ: blocks of 32 weights d (q - z), as Q4_1's, in place of whose
                           minimum stands z, a whole number as binary16 */
};

/* A file that weights are read from, opened for reading: a regular one (CRIA_ERROR_FILE otherwise, and where it cannot
 * be opened). It may be freed once the matrices that are mapped from it are there. `path` is as open(2) takes it,
 * on Windows in UTF-8. */
typedef struct cria_file cria_file;
CRIA_API cria_status cria_file_open(const char* path, cria_file** file);
CRIA_API void cria_file_free(cria_file* file);

typedef struct cria_tensor cria_tensor;

/* A matrix of `rows` x `cols` zeros, each at least 1, packed for products with its rows. `cols` is a multiple of 32 in
 * the quantised types, of 256 in those whose names end in _K (CRIA_ERROR_ARGUMENT). A GPU has F32, F16, BF16, Q4_0,
 * Q8_0, Q4_K, Q5_K and Q6_K alone (CRIA_ERROR_UNSUPPORTED). */
CRIA_API cria_status cria_matrix_create(cria_device* device, cria_type type, size_t rows, size_t cols,
                                        cria_tensor** tensor);

/* The same matrix over a file that holds it packed, at `offset`, a multiple of 64: mapped, shared and read-only. Its
 * pages are brought in, on all threads, before the call returns, where the system can (Linux 5.14); nothing can be
 * packed into it. Whether the file was packed in this layout, the caller must know (cria_matrix_layout).
 * CRIA_ERROR_FILE where the file does not hold it or cannot be read, CRIA_ERROR_UNSUPPORTED on a GPU. Should the file
 * be cut afterwards, or its disk fail, the use of the matrix ends the process with SIGBUS. */
CRIA_API cria_status cria_matrix_map(cria_device* device, cria_type type, size_t rows, size_t cols, cria_file* file,
                                     uint64_t offset, cria_tensor** tensor);

/* The same, from any `offset`, read into memory of its own: what becomes of the file afterwards does not matter. It
 * takes that memory, and the time of a copy. */
CRIA_API cria_status cria_matrix_read(cria_device* device, cria_type type, size_t rows, size_t cols, cria_file* file,
                                      uint64_t offset, cria_tensor** tensor);

/* The version of the layout in which a device of `kind` packs matrices. Bytes packed in one are noise in another.
 * CRIA_ERROR_UNSUPPORTED for a GPU, whose layout is not one for files. */
CRIA_API cria_status cria_matrix_layout(cria_device_kind kind, uint32_t* version);

/* The bytes that a packed matrix takes on a device of `kind`, before there is one. CRIA_ERROR_UNSUPPORTED as of
 * cria_matrix_create. */
CRIA_API cria_status cria_matrix_bytes(cria_device_kind kind, cria_type type, size_t rows, size_t cols, size_t* bytes);

/* A vector of `size` zeros, at least 1, held as f32. It is packed from CRIA_TYPE_F32, _F16 or _BF16, by `type`. */
CRIA_API cria_status cria_vector_create(cria_device* device, cria_type type, size_t size, cria_tensor** tensor);

/* Packs `rows` rows, laid out as GGUF lays them, at row `row` (a vector is one row). `bytes` is the size of `data`, and
 * must be theirs. */
CRIA_API cria_status cria_tensor_pack(cria_tensor* tensor, size_t row, size_t rows, const void* data, size_t bytes);

/* The same, read from `offset` in a file, on all threads, without mapping it. CRIA_ERROR_FILE where the file has them
 * not or cannot be read. */
CRIA_API cria_status cria_tensor_pack_file(cria_tensor* tensor, size_t row, size_t rows, cria_file* file,
                                           uint64_t offset);

/* A matrix of 4-bit weights as GPTQ and AWQ lay them out, inputs first: w = scale (q - zero), scale and zero being
 * those of the output and of the input's group. Eight of q or of the zeros stand in an int32, the first in the lowest
 * bits: those of AWQ of outputs 0, 2, 4, 6, 1, 3, 5, 7 of each eight, GPTQ's zeros of outputs in order. */
typedef int32_t cria_int4_layout;
enum {
  CRIA_INT4_GPTQ = 0, /* weights [inputs / 8][outputs], eight inputs in order in each */
  CRIA_INT4_AWQ = 1   /* weights [inputs][outputs / 8] */
};
typedef struct cria_int4 {
  uint32_t struct_size;
  cria_int4_layout layout;
  uint32_t zero_offset;           /* 0 or 1: is added to the zeros, modulo 16. GPTQ's first version stores one less */
  size_t inputs, outputs, groups; /* each at least 1; outputs a multiple of 8, and in GPTQ's layout inputs too */
  const int32_t* weights;
  const int32_t* zeros;         /* [groups][outputs / 8] */
  const uint16_t* scales;       /* [groups][outputs], binary16 */
  const int32_t* columns;       /* [cols of the tensor] the input that each column is of; -1: of none */
  const int32_t* column_groups; /* [cols / 32] the group of each 32 columns */
} cria_int4;

/* Packs all of the matrix's outputs, as rows, at row `row` of a tensor of CRIA_TYPE_Q4_Z, or of CRIA_TYPE_Q4_0, for
 * which every zero must be 8; that one is not may be found when rows are packed already, which then hold anything.
 * Weights of columns of no input are 0. No weight is rounded. */
CRIA_API cria_status cria_tensor_pack_int4(cria_tensor* tensor, size_t row, const cria_int4* matrix);

/* The inverse of cria_tensor_pack: the same bytes (of a vector, as f32). */
CRIA_API cria_status cria_tensor_unpack(const cria_tensor* tensor, size_t row, size_t rows, void* data, size_t bytes);

/* Copies `bytes` of what the device holds, of the cria_tensor_bytes that there are, from `offset` on: a matrix in the
 * device's layout, a vector as f32. */
CRIA_API cria_status cria_tensor_read_packed(const cria_tensor* tensor, size_t offset, void* data, size_t bytes);

/* Random weights of about that standard deviation, the same for the same seed: something to measure speed with. */
CRIA_API cria_status cria_tensor_fill_random(cria_tensor* tensor, uint64_t seed, float deviation);

/* The shape of a tensor (a vector is one row), and the bytes of memory that it takes. 0 for null. */
CRIA_API size_t cria_tensor_rows(const cria_tensor* tensor);
CRIA_API size_t cria_tensor_cols(const cria_tensor* tensor);
CRIA_API size_t cria_tensor_bytes(const cria_tensor* tensor);
CRIA_API void cria_tensor_free(cria_tensor* tensor);

/* ---- Weight types: from one to another -----------------------------------------------------------------------------
 *
 * Rows stand as GGUF lays them, in their type's blocks. A weight decodes to the f32 nearest to what its bits say. It is
 * encoded so that the squares of a block's errors sum up to little: to the nearest f16 or bf16, and in the quantised
 * types with scales that least squares found. The bytes depend on the block's weights alone, not on the threads.
 */

/* out [rows][cols] = the weights of `data`, whose size is `bytes`. */
CRIA_API cria_status cria_weights_decode(cria_type type, size_t rows, size_t cols, const void* data, size_t bytes,
                                         float* out);

/* The inverse: x [rows][cols] to `out`, whose size is `bytes`, on the device's pool; a GPU's weights are encoded on the
 * processor. CRIA_ERROR_NUMBERS, whose sentence names the row and the column, where a weight is NaN, infinite, or
 * beyond 65504, the largest f16, in a type other than f32 and bf16. */
CRIA_API cria_status cria_weights_encode(cria_device* device, cria_type type, size_t rows, size_t cols, const float* x,
                                         void* out, size_t bytes);

/* cria_tensor_pack of rows that are of type `from`: decoded and encoded on the way, a row at a time on each thread.
 * Where `from` is the tensor's own type they are taken as they are. CRIA_ERROR_NUMBERS as of cria_weights_encode. */
CRIA_API cria_status cria_tensor_convert(cria_tensor* tensor, size_t row, size_t rows, cria_type from, const void* data,
                                         size_t bytes);

/* The same, read from `offset` in a file. CRIA_ERROR_FILE where the file has them not or cannot be read. */
CRIA_API cria_status cria_tensor_convert_file(cria_tensor* tensor, size_t row, size_t rows, cria_file* file,
                                              uint64_t offset, cria_type from);

/* ---- The KV cache -------------------------------------------------------------------------------------------------
 */

#define CRIA_KV_BLOCK 16 /* tokens in a block of the cache */

typedef struct cria_cache cria_cache;
typedef struct cria_cache_options {
  uint32_t struct_size;
  cria_type key_type, value_type;    /* CRIA_TYPE_F32, CRIA_TYPE_F16 or CRIA_TYPE_Q8_0 each */
  size_t layers, kv_heads, head_dim; /* each at least 1; head_dim a multiple of 8, at most 256 */
  size_t blocks;                     /* of 16 tokens, in each layer; at least 1 */
} cria_cache_options;

/* A cache of zeros. On the CPU address space is reserved, and pages are taken as they are first written; on a GPU all
 * of the memory is taken. */
CRIA_API cria_status cria_cache_create(cria_device* device, const cria_cache_options* options, cria_cache** cache);
/* The bytes of memory that it takes when all of it was written. 0 for null. */
CRIA_API size_t cria_cache_bytes(const cria_cache* cache);
CRIA_API void cria_cache_free(cria_cache* cache);

typedef struct cria_rope_options {
  uint32_t struct_size;
  size_t heads;      /* of q, a multiple of the cache's kv_heads; those of k and v, and head_dim, are the cache's */
  size_t rotary_dim; /* even, at least 2, at most head_dim */
  int32_t halves;    /* pairs are 0: (2i, 2i + 1), as Meta and GGUF store them; 1: (i, i + rotary_dim / 2) */
  double theta;      /* above 0; 10000 in LLaMA */
  double scale;      /* above 0; positions are divided by it; 1 for none */

  /* [rotary_dim / 2] finite, at least 0: what a position is multiplied by to give pair i's angle, in place of
   * theta^(-2i / rotary_dim) / scale; null for that. `theta` and `scale` are then not looked at. */
  const double* frequencies;
  double magnitude; /* finite, at least 0: q and k, where they turn, are multiplied by it; 0 for 1 */
} cria_rope_options;

/* What follows works on the cache as a run does, on the device's pool, and takes its turn with the runs. */

/* The bytes of one block, K and V of all layers. 0 for null. */
CRIA_API size_t cria_cache_block_bytes(const cria_cache* cache);

/* Copies `count` blocks, of all layers, to `data`; `bytes`, the size of `data`, must be theirs. Blocks stand one after
 * another, in the order given; in a block its layers, in a layer its kv heads, of a head K [head_dim][16] and then V
 * [16][head_dim], each in its type and, of q8_0, followed by its scales as in cria_kv_layer. This order is the same on
 * every device. Places that no run has written hold whatever was there before. */
CRIA_API cria_status cria_cache_read(cria_cache* cache, size_t count, const int32_t* blocks, void* data, size_t bytes);

/* The inverse of cria_cache_read. No block may be named twice. Any bytes are taken: NaN among them stay NaN. */
CRIA_API cria_status cria_cache_write(cria_cache* cache, size_t count, const int32_t* blocks, const void* data,
                                      size_t bytes);

/* Copies key and value of slot from[i] to slot to[i], over all layers and heads, for each i below `count`. A slot is a
 * block times 16, plus the token's place in it. No slot is written twice, and none is read after it was written: to[i]
 * may be from[j] where j <= i, as it is where tokens move towards the beginning of their sequence in ascending order.
 *
 * Where `shift` is not 0 the keys are turned by as many positions, which may be below 0: RoPE of k at position p,
 * turned by s, is that at p + s. `rope`, whose `heads` is ignored, must then be what the keys were turned with: its
 * `magnitude`, which they have already, is not given to them again. They are rounded to the cache's type once more, in
 * q8_0 whole groups of 32 dimensions of which one turns. Values, and keys where `shift` is 0, are copied bit for bit;
 * `rope` may then be null. */
CRIA_API cria_status cria_cache_move(cria_cache* cache, size_t count, const int32_t* from, const int32_t* to,
                                     int32_t shift, const cria_rope_options* rope);

/* ---- Batches -------------------------------------------------------------------------------------------------------
 */

/* Any number of sequences, each with any number of new tokens. Sequence s has lengths[s] new tokens, which follow those
 * of sequence s - 1 in `tokens` and `positions`; the cache holds pasts[s] tokens of it already; its token i lives in
 * the block named by entry i / 16 of its block table. The tables stand one after another in `blocks`. */
typedef struct cria_batch {
  uint32_t struct_size;
  size_t token_count, sequence_count, block_count, output_count;
  const int32_t* tokens;       /* [token_count] ids; null for a single kernel that needs none */
  const int32_t* positions;    /* [token_count] for RoPE, at least 0; null for a kernel that needs none */
  const int32_t* lengths;      /* [sequence_count] at least 0; their sum is token_count */
  const int32_t* pasts;        /* [sequence_count] at least 0 */
  const int32_t* block_counts; /* [sequence_count] lengths of the block tables; their sum is block_count */
  const int32_t* blocks;       /* [block_count]; a block that is written to stands in one table, once */
  const int32_t* outputs;      /* [output_count] rows of `tokens` whose outputs are wanted, in any order */
} cria_batch;

/* ---- Programs: a forward pass, recorded once ------------------------------------------------------------------------
 */

typedef struct cria_program cria_program;
typedef int32_t cria_value; /* an activation of the program: one row of f32 for each token, or for each output */

/* An empty program for a cache of that shape (`blocks` is ignored). */
CRIA_API cria_status cria_program_create(cria_device* device, const cria_cache_options* cache, cria_program** program);
CRIA_API void cria_program_free(cria_program* program);

typedef int32_t cria_rows;
enum { CRIA_ROWS_TOKENS = 0, CRIA_ROWS_OUTPUTS = 1 };

/* A new value of `width` floats a row, at least 1. Ops run in the order of recording and may write a value again and
 * again. Nothing can be recorded after cria_program_finish (CRIA_ERROR_ARGUMENT, here and of every op). */
CRIA_API cria_status cria_program_value(cria_program* program, cria_rows rows, size_t width, cria_value* value);

/* The ops. Each checks the widths of its values against its tensors; operands of one op have the same rows. Weights are
 * matrices, a norm's is a vector. A value is not both read and written by an op that does not say so. */

/* out = table[token] */
CRIA_API cria_status cria_program_embed(cria_program* program, const cria_tensor* table, cria_value out);
/* out = x / sqrt(mean(x^2) + eps) * weight; eps above 0. out may be x. */
CRIA_API cria_status cria_program_rmsnorm(cria_program* program, cria_value x, const cria_tensor* weight, float eps,
                                          cria_value out);
/* Columns [column, column + rows of weight) of out = x weight^T. Quantised weights take x quantised to int8, which is
 * done once for all products in a row with the same x. */
CRIA_API cria_status cria_program_matmul(cria_program* program, cria_value x, const cria_tensor* weight, cria_value out,
                                         size_t column);
/* out = out + x weight^T, the bits of cria_program_matmul and cria_program_add. out is as wide as weight has rows. */
CRIA_API cria_status cria_program_matmul_add(cria_program* program, cria_value x, const cria_tensor* weight,
                                             cria_value out);
/* out = silu(gate) * up, gate and up being the halves of x weight^T: the bits of cria_program_matmul and
 * cria_program_swiglu. weight has twice as many rows as out is wide. */
CRIA_API cria_status cria_program_matmul_swiglu(cria_program* program, cria_value x, const cria_tensor* weight,
                                                cria_value out);
/* Turns q and k of qkv, a value of (heads + 2 kv_heads) head_dim, and writes k and v to a layer of the cache. */
CRIA_API cria_status cria_program_rope(cria_program* program, cria_value qkv, size_t layer,
                                       const cria_rope_options* options);
/* out, of heads * head_dim, = causal attention of the q in qkv over a layer of the cache */
CRIA_API cria_status cria_program_attention(cria_program* program, cria_value qkv, size_t layer, size_t heads,
                                            cria_value out);
/* out, of heads * head_dim, = out + gate[h] attention of the q in qkv, of each head h, over the keys and values of a
 * prefix, which belong to no token and have a softmax of their own (Zhang et al. 2023, "LLaMA-Adapter"). keys and
 * values are vectors of [length][kv_heads][head_dim], of a length of 1 to 256, gates is one of [heads]. */
CRIA_API cria_status cria_program_prefix_attention(cria_program* program, cria_value qkv, const cria_tensor* keys,
                                                   const cria_tensor* values, const cria_tensor* gates, cria_value out);
/* out = silu(gate) * up, gate and up being the halves of gate_up */
CRIA_API cria_status cria_program_swiglu(cria_program* program, cria_value gate_up, cria_value out);
/* out = x + y; out may be x or y */
CRIA_API cria_status cria_program_add(cria_program* program, cria_value x, cria_value y, cria_value out);
/* out, a value with a row for each output, = the rows of x, a value with a row for each token, that the batch asks for
 */
CRIA_API cria_status cria_program_select(cria_program* program, cria_value x, cria_value out);

/* out[k] = x[columns[k]], and 0 where columns[k] is -1; columns [count], count being out's width. What columns of
 * weights that stand in another order are multiplied by. CRIA_ERROR_UNSUPPORTED on a GPU. */
CRIA_API cria_status cria_program_gather(cria_program* program, cria_value x, const int32_t* columns, size_t count,
                                         cria_value out);

/* Names the result, a value with a row for each output. The program can be run then, any number of times and by any
 * number of threads. */
CRIA_API cria_status cria_program_finish(cria_program* program, cria_value result);

/* Triggered from any thread, at any time, it stops the runs that were given it, now and later. Null is ignored. */
typedef struct cria_cancel cria_cancel;
CRIA_API cria_status cria_cancel_create(cria_cancel** cancel);
CRIA_API void cria_cancel_trigger(cria_cancel* cancel);
CRIA_API void cria_cancel_free(cria_cancel* cancel);

/* Runs a finished program over a batch, on the calling thread and the device's pool. `result` is [output_count][width
 * of the result], `result_count` its floats. `cache` is of the program's shape, and on a GPU of the same device.
 * `cancel` may be null; it is looked at between the slices of an op, on a GPU before the run begins: after
 * CRIA_ERROR_ABORTED `result`, and what the new tokens have in the cache, are undefined. */
CRIA_API cria_status cria_program_run(cria_program* program, cria_cache* cache, const cria_batch* batch,
                                      cria_cancel* cancel, float* result, size_t result_count);

/* How a token is drawn from the candidates: those of the largest logits. */
#define CRIA_MAX_CANDIDATES 64
typedef struct cria_sampling {
  uint32_t struct_size;
  float temperature; /* at least 0; 0: the token of the largest logit */
  float top_p;       /* above 0, at most 1: the fewest candidates that have this much of the probability, before
                        temperature, are drawn from */
  uint64_t seed;
} cria_sampling;

/* `steps` runs in a row, each with the tokens that the last one's logits led to. The batch has one new token for each
 * of its sequences, in their order; their block tables have room for `steps` tokens, and their positions go up by one a
 * step. `outputs` is ignored. The program embeds tokens, from tables of no fewer rows than its result is wide. A token
 * is drawn as `sampling` [sequence_count] says from the `candidates` (1 to CRIA_MAX_CANDIDATES, at most the result's
 * width) largest logits, ties going to the lower id; the draw depends on the seed and the position alone. tokens,
 * [sequence_count][steps], are those drawn: the last of each has not been run. On a GPU a step's tokens never leave it,
 * and they come to the host together. After CRIA_ERROR_ABORTED `tokens`, and what they have in the cache, are
 * undefined. */
CRIA_API cria_status cria_program_decode(cria_program* program, cria_cache* cache, const cria_batch* batch,
                                         uint32_t candidates, const cria_sampling* sampling, size_t steps,
                                         cria_cancel* cancel, int32_t* tokens);

/* ---- Single kernels ------------------------------------------------------------------------------------------------
 *
 * On arrays of the caller's, on the calling thread and the device's pool. They return when `out` is written. On a GPU
 * the arrays travel there and back.
 */

/* out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight (Zhang and Sennrich 2019). x, out [rows][dim], weight [dim]; dim at
 * least 1, eps above 0. out may be x. */
CRIA_API cria_status cria_rmsnorm(cria_device* device, size_t rows, size_t dim, const float* x, const float* weight,
                                  float eps, float* out);

/* x [rows][dim], dim at least 1, to int8, in blocks of 32: quants [rows][stride], scales and sums [rows][stride / 32],
 * stride being dim rounded up to a multiple of 64, filled up with zeros. scale is near max|x| / 127, the best for the
 * quants; sum = the block's quants added up. */
CRIA_API cria_status cria_quantize(cria_device* device, size_t rows, size_t dim, const float* x, int8_t* quants,
                                   float* scales, int32_t* sums);

/* out[t] = table[tokens[t]]; tokens [count] each below the rows of table, out [count][cols of table]. */
CRIA_API cria_status cria_embed(cria_device* device, const cria_tensor* table, size_t count, const int32_t* tokens,
                                float* out);

/* out = x weight^T; x [tokens][cols of weight], out [tokens][rows of weight]. For quantised weights x is quantised as
 * cria_quantize does. */
CRIA_API cria_status cria_matmul(cria_device* device, const cria_tensor* weight, size_t tokens, const float* x,
                                 float* out);

/* One layer of a cache that the caller owns: k [blocks][kv_heads][head_dim][16], v [blocks][kv_heads][16][head_dim], of
 * f32, f16 or q8_0. Those of q8_0 are int8_t, and behind the 16 head_dim of each block and head stand their scales,
 * [(head_dim + 31) / 32][16] of f16: one for 32 dimensions, or for what is left of them, of each of the 16 tokens. */
typedef struct cria_kv_layer {
  uint32_t struct_size;
  cria_type key_type, value_type; /* CRIA_TYPE_F32, CRIA_TYPE_F16 or CRIA_TYPE_Q8_0 each */
  size_t blocks, kv_heads, head_dim;
  void* k;
  void* v;
} cria_kv_layer;

/* Turns q and k of qkv [tokens][(heads + 2 kv_heads) head_dim] in place (Su et al. 2021) and writes k and v to the
 * cache. */
CRIA_API cria_status cria_rope(cria_device* device, const cria_batch* batch, const cria_rope_options* options,
                               const cria_kv_layer* cache, float* qkv);

/* out [tokens][heads * head_dim] = causal attention (Vaswani et al. 2017, with grouped queries) of q, each row of which
 * begins `q_stride` floats after the last, over the cache; scores are divided by sqrt(head_dim). */
CRIA_API cria_status cria_attention(cria_device* device, const cria_batch* batch, size_t heads,
                                    const cria_kv_layer* cache, const float* q, size_t q_stride, float* out);

/* out[r] = silu(gate[r]) * up[r]; gate_up [rows][2 dim]: gate, then up; out [rows][dim]; dim at least 1. */
CRIA_API cria_status cria_swiglu(cria_device* device, size_t rows, size_t dim, const float* gate_up, float* out);

/* out = x + y, `count` floats each; out may be x or y. */
CRIA_API cria_status cria_add(cria_device* device, size_t count, const float* x, const float* y, float* out);

#ifdef __cplusplus
}
#endif

#endif /* CRIA_H_ */
