/* Structs of callers that were compiled with another cria.h of version 1, an earlier one or a later one.
 * Prints one line a check that failed; the exit status is their number. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cria.h"

static int failures = 0;

static void expect(cria_status actual, cria_status wanted, const char* sentence, const char* what) {
  if (actual == wanted && (sentence == NULL || strcmp(cria_last_error(), sentence) == 0)) return;
  printf("%s: status %d, \"%s\"\n", what, (int)actual, cria_last_error());
  ++failures;
}

/* Version 1 with two fields more. */
struct longer_options {
  cria_device_options first;
  uint64_t newer[2];
};
struct longer_info {
  cria_device_info first;
  uint8_t newer[40];
};
struct longer_sampling {
  cria_sampling first;
  uint64_t newer;
};

static cria_program* program_of(cria_device* device, cria_tensor** table) {
  const cria_cache_options shape = {sizeof shape, CRIA_TYPE_F32, CRIA_TYPE_F32, 1, 1, 8, 1};
  const float rows[4][2] = {{0, 1}, {1, 0}, {2, 2}, {3, -1}};
  cria_program* program = NULL;
  cria_value x, out;
  expect(cria_matrix_create(device, CRIA_TYPE_F32, 4, 2, table), CRIA_OK, NULL, "matrix_create");
  expect(cria_tensor_pack(*table, 0, 4, rows, sizeof rows), CRIA_OK, NULL, "tensor_pack");
  expect(cria_program_create(device, &shape, &program), CRIA_OK, NULL, "program_create");
  expect(cria_program_value(program, CRIA_ROWS_TOKENS, 2, &x), CRIA_OK, NULL, "program_value");
  expect(cria_program_value(program, CRIA_ROWS_OUTPUTS, 2, &out), CRIA_OK, NULL, "program_value");
  expect(cria_program_embed(program, *table, x), CRIA_OK, NULL, "program_embed");
  expect(cria_program_select(program, x, out), CRIA_OK, NULL, "program_select");
  expect(cria_program_finish(program, out), CRIA_OK, NULL, "program_finish");
  return program;
}

/* Two sequences, whose samplings lie as far apart as the first says. */
static void array_of_longer_structs(cria_device* device) {
  const cria_cache_options shape = {sizeof shape, CRIA_TYPE_F32, CRIA_TYPE_F32, 1, 1, 8, 2};
  const int32_t tokens[] = {0, 3}, zeros[] = {0, 0}, ones[] = {1, 1}, blocks[] = {0, 1};
  const cria_batch batch = {sizeof batch, 2, 2, 2, 0, tokens, zeros, ones, zeros, ones, blocks, NULL};
  const cria_sampling greedy = {sizeof(struct longer_sampling), 0, 1, 0};
  struct longer_sampling sampling[2] = {{greedy, 0}, {greedy, 0}};
  int32_t drawn[2] = {-1, -1};
  cria_tensor* table = NULL;
  cria_cache* cache = NULL;
  cria_program* program = program_of(device, &table);
  expect(cria_cache_create(device, &shape, &cache), CRIA_OK, NULL, "cache_create");

  expect(cria_program_decode(program, cache, &batch, 1, &sampling[0].first, 1, NULL, drawn), CRIA_OK, NULL, "decode");
  if (drawn[0] != 1 || drawn[1] != 0) ++failures, printf("decode: drew %d and %d\n", (int)drawn[0], (int)drawn[1]);
  sampling[1].newer = 1;
  expect(cria_program_decode(program, cache, &batch, 1, &sampling[0].first, 1, NULL, drawn), CRIA_ERROR_UNSUPPORTED,
         "sampling: sets a field that this version of cria does not have", "a newer field in an array");
  sampling[1].first.struct_size = sizeof greedy;
  expect(cria_program_decode(program, cache, &batch, 1, &sampling[0].first, 1, NULL, drawn), CRIA_ERROR_ARGUMENT,
         "sampling.struct_size: must be 32, the first one's, not 24", "sizes that differ in an array");

  cria_cache_free(cache);
  cria_tensor_free(table);
  cria_program_free(program);
}

/* The options of RoPE as they were before they had frequencies. */
static void rope_of_an_earlier_caller(cria_device* device) {
  const cria_cache_options shape = {sizeof shape, CRIA_TYPE_F32, CRIA_TYPE_F32, 1, 1, 8, 1};
  const double nonsense[] = {-1, -1, -1, -1};
  struct {
    cria_rope_options first;
    uint64_t newer;
  } rope = {{sizeof rope.first, 1, 8, 0, 10000, 1, nonsense, 0}, 1};
  cria_program* program = NULL;
  cria_value qkv;
  expect(cria_program_create(device, &shape, &program), CRIA_OK, NULL, "program_create");
  expect(cria_program_value(program, CRIA_ROWS_TOKENS, 24, &qkv), CRIA_OK, NULL, "program_value");
  expect(cria_program_rope(program, qkv, 0, &rope.first), CRIA_ERROR_ARGUMENT,
         "options.frequencies[0]: must be from 0 to 2^64, not -1", "frequencies below 0");
  rope.first.struct_size = (uint32_t)offsetof(cria_rope_options, frequencies) + 4;
  expect(cria_program_rope(program, qkv, 0, &rope.first), CRIA_ERROR_ARGUMENT,
         "options.struct_size: must be a multiple of 8 from 48 to 4096, not 52", "half of a pointer");
  rope.first.struct_size = (uint32_t)offsetof(cria_rope_options, frequencies);
  expect(cria_program_rope(program, qkv, 0, &rope.first), CRIA_OK, NULL, "options without frequencies");
  rope.first.struct_size = sizeof rope;
  expect(cria_program_rope(program, qkv, 0, &rope.first), CRIA_ERROR_UNSUPPORTED,
         "options: sets a field that this version of cria does not have", "options with a newer field");
  cria_program_free(program);
}

/* A later version may give another value a meaning, which must not be taken for that of 1. */
static void flags_of_neither_value(cria_device* device) {
  const cria_cache_options shape = {sizeof shape, CRIA_TYPE_F32, CRIA_TYPE_F32, 1, 1, 8, 1};
  cria_rope_options rope = {sizeof rope, 1, 8, 2, 10000, 1, NULL, 0};
  cria_program* program = NULL;
  cria_value qkv;
  expect(cria_program_create(device, &shape, &program), CRIA_OK, NULL, "program_create");
  expect(cria_program_value(program, CRIA_ROWS_TOKENS, 24, &qkv), CRIA_OK, NULL, "program_value");
  expect(cria_program_rope(program, qkv, 0, &rope), CRIA_ERROR_ARGUMENT, "options.halves: must be 0 or 1, not 2",
         "halves of 2");
  rope.halves = 1;
  expect(cria_program_rope(program, qkv, 0, &rope), CRIA_OK, NULL, "halves of 1");
  cria_program_free(program);
}

int main(void) {
  cria_device* device = NULL;
  struct longer_options options = {{sizeof options, CRIA_DEVICE_CPU, CRIA_ISA_SCALAR, 1}, {0, 0}};
  struct longer_info info;
  memset(&info, 0xff, sizeof info);
  info.first.struct_size = sizeof info;

  if (cria_abi_version() != CRIA_ABI_VERSION) ++failures, puts("cria_abi_version is not the header's");
  expect(cria_device_open(&options.first, &device), CRIA_OK, NULL, "longer options");
  options.newer[1] = 1;
  expect(cria_device_open(&options.first, &device), CRIA_ERROR_UNSUPPORTED,
         "options: sets a field that this version of cria does not have", "a newer field");
  options.first.struct_size = 15;
  expect(cria_device_open(&options.first, &device), CRIA_ERROR_ARGUMENT,
         "options.struct_size: must be a multiple of 4 from 16 to 4096, not 15", "a short struct");
  options.first.struct_size = 0xffffffff;
  expect(cria_device_open(&options.first, &device), CRIA_ERROR_ARGUMENT,
         "options.struct_size: must be a multiple of 4 from 16 to 4096, not 4294967295",
         "a struct_size that was never set");

  expect(cria_device_get_info(device, &info.first), CRIA_OK, NULL, "longer info");
  if (info.first.threads != 1 || info.first.isa != CRIA_ISA_SCALAR) ++failures, puts("info: not the device's");
  if (info.first.struct_size != sizeof info) ++failures, puts("info: struct_size was written");
  for (size_t i = 0; i < sizeof info.newer; ++i) {
    if (info.newer[i] != 0) ++failures, puts("info: a newer field is not 0");
  }
  array_of_longer_structs(device);
  flags_of_neither_value(device);
  rope_of_an_earlier_caller(device);
  cria_device_free(device);
  return failures;
}
