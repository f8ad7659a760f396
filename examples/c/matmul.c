/* One kernel from C (C99 or later): the product of q4_0 weights and the activations of two tokens.
 *
 *   npm install cria
 *   package=node_modules/cria libraries=$package/prebuilds/linux-x64
 *   cc -std=c99 matmul.c -I $package/csrc -L $libraries -lcria -Wl,-rpath,$libraries -o matmul && ./matmul
 */
#include <cria.h>
#include <stdio.h>

enum { ROWS = 4, COLS = 64, TOKENS = 2 };
/* A q4_0 block, as GGUF files hold it: 32 weights of a row, as a scale in f16, little-endian, and 32 times 4 bits. */
enum { BLOCK = 32, BLOCK_BYTES = 2 + BLOCK / 2, BLOCKS = ROWS * COLS / BLOCK };

/* Weights and activations from nowhere in particular, the same in the examples of every language. */
static void fill(uint8_t* weights, float* x) {
  for (int b = 0; b < BLOCKS; ++b) {
    uint8_t* block = weights + b * BLOCK_BYTES;
    block[0] = 0x00; /* 0x2c00 is 1/16 */
    block[1] = 0x2c;
    for (int i = 0; i < BLOCK / 2; ++i) block[2 + i] = (uint8_t)(37 * b + 11 * i);
  }
  for (int i = 0; i < TOKENS * COLS; ++i) x[i] = (float)(7 * i % 13 - 6) / 8;
}

int main(void) {
  int exit_code = 1;
  cria_device* device = NULL;
  cria_tensor* weight = NULL;
  uint8_t data[BLOCKS * BLOCK_BYTES];
  float x[TOKENS * COLS], out[TOKENS * ROWS];
  const cria_device_options options = {.struct_size = sizeof(options), .kind = CRIA_DEVICE_CPU};

  if (cria_abi_version() != CRIA_ABI_VERSION) {
    fprintf(stderr, "libcria.so is of ABI version %u, not %u\n", (unsigned)cria_abi_version(), CRIA_ABI_VERSION);
    return 1;
  }
  fill(data, x);
  if (cria_device_open(&options, &device) != CRIA_OK) goto failed;
  if (cria_matrix_create(device, CRIA_TYPE_Q4_0, ROWS, COLS, &weight) != CRIA_OK) goto failed;
  if (cria_tensor_pack(weight, 0, ROWS, data, sizeof(data)) != CRIA_OK) goto failed;
  if (cria_matmul(device, weight, TOKENS, x, out) != CRIA_OK) goto failed;
  for (int t = 0; t < TOKENS; ++t) {
    for (int r = 0; r < ROWS; ++r) printf("%.9g%s", out[t * ROWS + r], r + 1 < ROWS ? " " : "\n");
  }

  /* What cannot be is refused, with a sentence that says why. */
  cria_tensor* none = NULL;
  const cria_status status = cria_matrix_create(device, CRIA_TYPE_Q4_0, ROWS, COLS + 1, &none);
  printf("refused with %d: %s\n", (int)status, cria_last_error());
  exit_code = 0;
  goto done;

failed:
  fprintf(stderr, "cria: %s\n", cria_last_error());
done:
  cria_tensor_free(weight);
  cria_device_free(device);
  return exit_code;
}
