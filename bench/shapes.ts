import type { LlamaConfig } from "../lib/weights/source.js";

/** A LLaMA's shape, from the numbers in which they differ. */
function llama(
  [dim, layers, heads, kvHeads, ffn]: [number, number, number, number, number],
  { contextLength = 4096, theta = 1e4, eps = 1e-5, vocab = 32000 } = {},
): LlamaConfig {
  const headDim = dim / heads;
  const rope = { theta, scale: 1, dim: headDim, pairing: "adjacent" } as const;
  return { layers, dim, heads, kvHeads, headDim, ffn, vocab, contextLength, eps, rope };
}

/**
 * The shapes of the models that people run (Touvron et al. 2023, table 2; Llama 2, table 1; TinyLlama's configuration;
 * stories15M's of llama2.c). */
export const shapes: Readonly<Record<string, LlamaConfig>> = {
  stories15m: llama([288, 6, 6, 6, 768], { contextLength: 256 }),
  tinyllama: llama([2048, 22, 32, 4, 5632], { contextLength: 2048 }),
  "7b": llama([4096, 32, 32, 32, 11008]),
  "13b": llama([5120, 40, 40, 40, 13824]),
  "33b": llama([6656, 60, 52, 52, 17920], { contextLength: 2048, eps: 1e-6 }),
  "34b": llama([8192, 48, 64, 8, 22016], { contextLength: 16384, theta: 1e6 }),
  "65b": llama([8192, 80, 64, 64, 22016], { contextLength: 2048 }),
  "70b": llama([8192, 80, 64, 8, 28672]),
};

/** Those whose output matrix is the embedding. */
const tied: ReadonlySet<string> = new Set(["stories15m"]);

/** The shape of that name, one of {@link shapes}. */
export function shapeOf(name: string): { config: LlamaConfig; tied: boolean } {
  return { config: shapes[name]!, tied: tied.has(name) };
}
