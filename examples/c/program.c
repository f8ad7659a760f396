/* A small program from C (C99 or later): ops recorded once, then run on a batch, in one call.
 *
 * It is a language model without layers, logits = head rmsnorm(embed(token)): how LLaMA's forward pass begins and ends.
 * What lies between is recorded in the same way, by cria_program_rope, cria_program_attention and their kin.
 *
 *   npm install cria
 *   package=node_modules/cria libraries=$package/prebuilds/linux-x64
 *   cc -std=c99 program.c -I $package/csrc -L $libraries -lcria -Wl,-rpath,$libraries -o program && ./program
 */
#include <cria.h>
#include <stdio.h>

enum { VOCABULARY = 8, DIM = 32 };

/* All that is opened, so that one place can close it. Freeing null does nothing. */
typedef struct model {
  cria_device* device;
  cria_tensor *table, *norm, *head;
  cria_program* program;
  cria_cache* cache;
} model;

/* One layer, for a cache has at least one; these ops do not use it. */
static const cria_cache_options kCache = {.struct_size = sizeof(cria_cache_options),
                                          .key_type = CRIA_TYPE_F16,
                                          .value_type = CRIA_TYPE_F16,
                                          .layers = 1,
                                          .kv_heads = 1,
                                          .head_dim = 8,
                                          .blocks = 2};

static cria_status load(model* m) {
  float table[VOCABULARY * DIM], norm[DIM], head[VOCABULARY * DIM];
  for (int i = 0; i < VOCABULARY * DIM; ++i) table[i] = (float)(7 * i % 13 - 6) / 8;
  for (int i = 0; i < DIM; ++i) norm[i] = (float)(i % 3 + 1) / 2;
  for (int i = 0; i < VOCABULARY * DIM; ++i) head[i] = (float)(5 * i % 11 - 5) / 8;

  const cria_device_options options = {.struct_size = sizeof(options), .kind = CRIA_DEVICE_CPU};
  cria_status status = cria_device_open(&options, &m->device);
  if (status == CRIA_OK) status = cria_matrix_create(m->device, CRIA_TYPE_F32, VOCABULARY, DIM, &m->table);
  if (status == CRIA_OK) status = cria_tensor_pack(m->table, 0, VOCABULARY, table, sizeof(table));
  if (status == CRIA_OK) status = cria_vector_create(m->device, CRIA_TYPE_F32, DIM, &m->norm);
  if (status == CRIA_OK) status = cria_tensor_pack(m->norm, 0, 1, norm, sizeof(norm));
  if (status == CRIA_OK) status = cria_matrix_create(m->device, CRIA_TYPE_F32, VOCABULARY, DIM, &m->head);
  if (status == CRIA_OK) status = cria_tensor_pack(m->head, 0, VOCABULARY, head, sizeof(head));
  return status;
}

/* x and hidden have a row for each token of a batch; last and logits one for each token whose logits are wanted. */
static cria_status record(model* m) {
  cria_value x, hidden, last, logits;
  cria_status status = cria_program_create(m->device, &kCache, &m->program);
  if (status == CRIA_OK) status = cria_program_value(m->program, CRIA_ROWS_TOKENS, DIM, &x);
  if (status == CRIA_OK) status = cria_program_value(m->program, CRIA_ROWS_TOKENS, DIM, &hidden);
  if (status == CRIA_OK) status = cria_program_value(m->program, CRIA_ROWS_OUTPUTS, DIM, &last);
  if (status == CRIA_OK) status = cria_program_value(m->program, CRIA_ROWS_OUTPUTS, VOCABULARY, &logits);
  if (status == CRIA_OK) status = cria_program_embed(m->program, m->table, x);
  if (status == CRIA_OK) status = cria_program_rmsnorm(m->program, x, m->norm, 1e-5f, hidden);
  if (status == CRIA_OK) status = cria_program_select(m->program, hidden, last);
  if (status == CRIA_OK) status = cria_program_matmul(m->program, last, m->head, logits, 0);
  if (status == CRIA_OK) status = cria_program_finish(m->program, logits);
  if (status == CRIA_OK) status = cria_cache_create(m->device, &kCache, &m->cache);
  return status;
}

/* The logits after the last tokens of two sequences, (1, 5, 2) and (7), neither of which the cache holds a token of. */
static cria_status run(model* m, float logits[2 * VOCABULARY]) {
  const int32_t tokens[] = {1, 5, 2, 7}, positions[] = {0, 1, 2, 0}, lengths[] = {3, 1}, pasts[] = {0, 0};
  const int32_t block_counts[] = {1, 1}, blocks[] = {0, 1}, outputs[] = {2, 3};
  const cria_batch batch = {.struct_size = sizeof(batch),
                            .token_count = 4,
                            .sequence_count = 2,
                            .block_count = 2,
                            .output_count = 2,
                            .tokens = tokens,
                            .positions = positions,
                            .lengths = lengths,
                            .pasts = pasts,
                            .block_counts = block_counts,
                            .blocks = blocks,
                            .outputs = outputs};
  return cria_program_run(m->program, m->cache, &batch, NULL, logits, 2 * VOCABULARY);
}

static void close_model(model* m) {
  cria_cache_free(m->cache);
  cria_program_free(m->program);
  cria_tensor_free(m->head);
  cria_tensor_free(m->norm);
  cria_tensor_free(m->table);
  cria_device_free(m->device);
}

int main(void) {
  if (cria_abi_version() != CRIA_ABI_VERSION) {
    fprintf(stderr, "libcria.so is of ABI version %u, not %u\n", (unsigned)cria_abi_version(), CRIA_ABI_VERSION);
    return 1;
  }
  model m = {0};
  float logits[2 * VOCABULARY];
  cria_status status = load(&m);
  if (status == CRIA_OK) status = record(&m);
  if (status == CRIA_OK) status = run(&m, logits);
  if (status == CRIA_OK) {
    for (int i = 0; i < 2 * VOCABULARY; ++i) printf("%.9g%s", logits[i], (i + 1) % VOCABULARY == 0 ? "\n" : " ");
    /* A finished program takes no more ops: that is refused, with a sentence that says why. */
    const cria_status refused = cria_program_finish(m.program, 0);
    printf("refused with %d: %s\n", (int)refused, cria_last_error());
  } else {
    fprintf(stderr, "cria: %s\n", cria_last_error());
  }
  close_model(&m);
  return status == CRIA_OK ? 0 : 1;
}
