import { describe, expect, test } from "vitest";
import { Device } from "../lib/device.js";
import { loadLlama } from "../lib/llama.js";
import type { CacheType } from "../lib/native.js";
import { Runtime } from "../lib/runtime.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { WeightStore } from "../lib/weights/store.js";
import { forward64, nmse } from "./support/float64.js";
import { type RandomWeights, randomLlama } from "./support/random-weights.js";

type Shape = Pick<LlamaConfig, "dim" | "heads" | "kvHeads" | "ffn" | "vocab" | "eps"> & { theta: number };

const shape = (
  [dim, heads, kvHeads, ffn, vocab]: readonly [number, number, number, number, number],
  theta: number,
  eps: number,
): Shape => ({ dim, heads, kvHeads, ffn, vocab, theta, eps });

/** Touvron et al. 2023 (LLaMA, Llama 2), Rozière et al. 2023 (Code Llama), Zhang et al. 2024 (TinyLlama), as published. */
const shapes = {
  "LLaMA 7B": shape([4096, 32, 32, 11_008, 32_000], 1e4, 1e-6),
  "LLaMA 13B": shape([5120, 40, 40, 13_824, 32_000], 1e4, 1e-6),
  "LLaMA 33B": shape([6656, 52, 52, 17_920, 32_000], 1e4, 1e-6),
  "LLaMA 65B": shape([8192, 64, 64, 22_016, 32_000], 1e4, 1e-5),
  "Llama 2 7B": shape([4096, 32, 32, 11_008, 32_000], 1e4, 1e-5),
  "Llama 2 13B": shape([5120, 40, 40, 13_824, 32_000], 1e4, 1e-5),
  "Llama 2 70B": shape([8192, 64, 8, 28_672, 32_000], 1e4, 1e-5),
  "Code Llama 7B": shape([4096, 32, 32, 11_008, 32_016], 1e6, 1e-5),
  "Code Llama 13B": shape([5120, 40, 40, 13_824, 32_016], 1e6, 1e-5),
  "Code Llama 34B": shape([8192, 64, 8, 22_016, 32_000], 1e6, 1e-5),
  "Code Llama 70B": shape([8192, 64, 8, 28_672, 32_016], 1e6, 1e-5),
  TinyLlama: shape([2048, 32, 4, 5632, 32_000], 1e4, 1e-5),
} as const;

function configOf(name: keyof typeof shapes, layers: number, rope: Partial<LlamaConfig["rope"]> = {}): LlamaConfig {
  const { theta, ...dims } = shapes[name];
  const headDim = dims.dim / dims.heads;
  return {
    ...dims,
    layers,
    headDim,
    contextLength: 64,
    rope: { theta, scale: 1, dim: headDim, pairing: "adjacent", ...rope },
  };
}

/** The vocabulary's first and last tokens, and two between. */
const tokensOf = ({ vocab }: LlamaConfig) => Int32Array.of(1, vocab - 1, 12_345, 0);

/** Coprime to the 16 rows of a panel: every lane of the matrix kernels is among the rows that are compared. */
const logitStride = 11;

/** Logits of the model, every `logitStride`-th after each token, with each type of cache. */
interface Logits {
  readonly f32: number[];
  readonly f16: number[];
}

/** Runs the model, and checks that the memory of its weights comes and goes. */
async function logitsOf(config: LlamaConfig, source: RandomWeights): Promise<Logits> {
  const device = new Device();
  const store = new WeightStore(device, source);
  const before = process.memoryUsage.rss();
  try {
    const weights = await loadLlama(config, store);
    expect(process.memoryUsage.rss() - before).toBeGreaterThan(0.8 * store.bytes);
    const run = async (cache: CacheType) => {
      const runtime = new Runtime(device, config, weights, { cache });
      const logits = await runtime.sequence().forward(tokensOf(config), "all");
      runtime.dispose();
      return Array.from(logits).filter((_, i) => (i % config.vocab) % logitStride === 0);
    };
    return { f32: await run("f32"), f16: await run("f16") };
  } finally {
    store.dispose();
    // What may be left is JavaScript's heap: the smallest of these models takes twice as much.
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 << 20);
  }
}

const referenceOf = (config: LlamaConfig, weights: RandomWeights, activations: "exact" | "int8" = "exact") =>
  forward64({ config, weights, activations, logitStride }, tokensOf(config)).flatMap((logits) => [...logits]);

/**
 * What the kernels may differ by, as NMSE, in one block or two.
 *
 * - float32: a sum of K products in float32 is off by some 2^-24 √K of itself, 1e-5 for the widest row of 28,672; half
 *   of it squared is 3e-11. Measured: up to 8e-12.
 * - half: K and V rounded to 11 bits are off by up to 2^-12 of themselves, 1.4e-4 in the mean; the square is 2e-8, which
 *   counts for K and V, in each block, and is amplified by softmax. Measured: up to 1.4e-7.
 * - int8: rounding activations to max|x| / 127, where the largest of 32 normal values is 2.1 deviations, is off by
 *   2.1 / 127 / √12 = 0.5 %, a square of 2.3e-5 for each of the products in a row: 9 of them in two blocks, and in the
 *   first the small embeddings' share weighs more. Measured: up to 4.2e-4.
 * - rounded: a reference that rounds activations too. A token of which no value lies within float32's error of a
 *   rounding's edge is off by 2e-13; one value on the other side of an edge brings others over theirs in the products
 *   that follow, at worst until the difference is that of two unrelated roundings. Measured: up to 2.8e-5; and 1e-4 is
 *   how far the reference moves when all its products are disturbed by 3e-6.
 */
const bounds = { float32: 3e-11, half: 5e-7, int8: 6e-4, rounded: 2e-4 } as const;

describe("weights of quantised types, in full width", () => {
  test.for<[keyof typeof shapes, WeightType]>([
    ["LLaMA 7B", "q8_0"],
    ["LLaMA 13B", "q4_0"],
    ["LLaMA 33B", "q4_0"],
    ["LLaMA 65B", "q4_0"],
    ["Llama 2 7B", "q4_0"],
    ["Llama 2 13B", "q8_0"],
    ["Llama 2 70B", "q4_0"],
    ["Code Llama 7B", "q8_0"],
    ["Code Llama 13B", "q4_0"],
    ["Code Llama 34B", "q8_0"],
    ["Code Llama 70B", "q8_0"],
  ])("a block of %s in %s", async ([name, type]) => {
    const config = configOf(name, 1);
    const source = randomLlama(config, { seed: 1, type });
    const logits = await logitsOf(config, source);
    expect(nmse(logits.f32, referenceOf(config, source, "int8"))).toBeLessThan(bounds.rounded);
  });

  test.for<WeightType>(["q8_0", "q4_0"])("two blocks of TinyLlama in %s", async (type) => {
    const config = configOf("TinyLlama", 2);
    const source = randomLlama(config, { seed: 2, type });
    const logits = await logitsOf(config, source);
    const exact = referenceOf(config, source);
    expect(nmse(logits.f32, referenceOf(config, source, "int8"))).toBeLessThan(bounds.rounded);
    expect(nmse(logits.f32, exact)).toBeLessThan(bounds.int8);
    expect(nmse(logits.f16, exact)).toBeLessThan(bounds.int8);
  });
});

describe("weights of float types, in full width", () => {
  test("a block of Llama 2 7B in f16", async () => {
    const config = configOf("Llama 2 7B", 1);
    const source = randomLlama(config, { seed: 3, type: "f16" });
    const logits = await logitsOf(config, source);
    const exact = referenceOf(config, source);
    expect(nmse(logits.f32, exact)).toBeLessThan(bounds.float32);
    expect(nmse(logits.f16, exact)).toBeLessThan(bounds.half);
  });

  test.for<WeightType>(["f32", "f16", "bf16"])("two blocks of TinyLlama in %s", async (type) => {
    const config = configOf("TinyLlama", 2);
    const source = randomLlama(config, { seed: 4, type });
    const logits = await logitsOf(config, source);
    const exact = referenceOf(config, source);
    expect(nmse(logits.f32, exact)).toBeLessThan(bounds.float32);
    expect(nmse(logits.f16, exact)).toBeLessThan(bounds.half);
  });
});

describe("variations of TinyLlama", () => {
  test("q, k and v, and gate and up, of different types: each a matrix of its own", async () => {
    const types: [RegExp, WeightType][] = [
      [/attn_q/, "f16"],
      [/attn_k/, "bf16"],
      [/attn_v/, "f32"],
      [/ffn_gate/, "bf16"],
    ];
    const config = configOf("TinyLlama", 1);
    const type = (name: string) => types.find(([pattern]) => pattern.test(name))?.[1] ?? "f16";
    const source = randomLlama(config, { seed: 5, type });
    expect(nmse((await logitsOf(config, source)).f32, referenceOf(config, source))).toBeLessThan(bounds.float32);
  });

  test("without an output matrix the embedding is it", async () => {
    const config = configOf("TinyLlama", 1);
    const source = randomLlama(config, { seed: 6, type: "f16", tied: true });
    expect(nmse((await logitsOf(config, source)).f32, referenceOf(config, source))).toBeLessThan(bounds.float32);
  });

  test("RoPE that pairs halves, turns a part of each head, and scales positions", async () => {
    const config = configOf("TinyLlama", 1, { pairing: "halves", dim: 48, scale: 4 });
    const source = randomLlama(config, { seed: 7, type: "f16" });
    expect(nmse((await logitsOf(config, source)).f32, referenceOf(config, source))).toBeLessThan(bounds.float32);
  });
});

test.for<[string, Partial<LlamaConfig>]>([
  ["epsilon", { eps: 1e-6 }],
  ["theta", { rope: { theta: 1e6, scale: 1, dim: 64, pairing: "adjacent" } }],
  ["pairing", { rope: { theta: 1e4, scale: 1, dim: 64, pairing: "halves" } }],
  ["position scale", { rope: { theta: 1e4, scale: 4, dim: 64, pairing: "adjacent" } }],
])("the bounds are tight enough to see a wrong %s", ([, wrong]) => {
  const config = configOf("TinyLlama", 1);
  const weights = randomLlama(config, { seed: 8, type: "q4_0" });
  const difference = nmse(referenceOf({ ...config, ...wrong }, weights, "int8"), referenceOf(config, weights, "int8"));
  expect(difference).toBeGreaterThan(5 * bounds.rounded);
});
