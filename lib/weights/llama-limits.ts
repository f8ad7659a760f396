/**
 * What is still a LLaMA and not a damaged file: each some times the largest that was published (Llama 3.1 405B: 126
 * layers, 128 heads, dimensions of 16,384 and 53,248; 128,256 pieces). Products of any two stay far below 2^53.
 */
export const most = {
  layers: 1024,
  dim: 65_536,
  heads: 1024,
  ffn: 262_144,
  vocab: 1_048_576,
  /** Up to here every position is exact as a float32. */
  contextLength: 2 ** 24,
} as const;

/** What the attention and RoPE kernels take: whole AVX2 registers, up to twice the 128 of the published LLaMAs. */
export const headDims = { multiple: 8, most: 256 } as const;
