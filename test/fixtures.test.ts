import { readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";

import type { DeviceOptions } from "../lib/device.js";
import { loadModel } from "../lib/model.js";
import type { CacheType } from "../lib/native.js";
import type { Runtime } from "../lib/runtime.js";
import { readLlama } from "../lib/weights/llama-gguf.js";
import { expectSameBits } from "./support/compare.js";
import { dataFile, needFiles } from "./support/data.js";
import { fileRows, forward64, nmse } from "./support/float64.js";
import { executions, scalar } from "./support/isas.js";

/**
 * How far llama.cpp's family is from each file's exact logits, as NMSE, with an f16 cache (AVX-512, int8 activations): the
 * kernels are to be no further. It is the figure of one random draw, so a tenth more is let pass.
 */
const peers: [name: string, nmse: number][] = [
  ["fixtures/tiny-f32", 2.7e-6],
  ["fixtures/tiny-f16", 2.7e-6],
  ["fixtures/tiny-bf16", 8.5e-5],
  ["fixtures/tiny-q8_0", 8.1e-4],
  ["fixtures/tiny-q4_0", 8.9e-4],
  ["fixtures/tiny-q4_1", 8.8e-4],
  ["fixtures/tiny-q5_0", 9.4e-4],
  ["fixtures/tiny-q5_1", 7.4e-4],
  ["fixtures/tiny-q2_k", 1e-5 / 1.1],
  ["fixtures/tiny-q3_k", 2.1e-3],
  ["fixtures/tiny-q4_k", 6.5e-8],
  ["fixtures/tiny-q5_k", 6.3e-8],
  ["fixtures/tiny-q6_k", 9.1e-4],
  ["fixtures/tiny-iq4_nl", 3.9e-5],
  ["fixtures/tiny-mha-hd64", 9.1e-4],
  ["fixtures/tiny-theta1e6-linear4", 2.9e-6],
  ["fixtures/tiny-odd", 2.6e-6],
  ["cria-tiny/cria-tiny-f32", 4.6e-8],
  ["cria-tiny/cria-tiny-q8_0", 4.8e-5],
  ["cria-tiny/cria-tiny-q4_0", 4.4e-5],
];
const allowance = 1.1;

interface Fixture {
  readonly path: string;
  readonly tokens: Int32Array;
  /** [tokens, vocab]: weights dequantised exactly, float64 throughout, rounded to float32 at the end. */
  readonly logits: Float32Array;
  /** The text of the tokens after BOS, where they are the model's own choice after `prompt`. */
  readonly greedy?: string;
  readonly prompt?: string;
  readonly prompt_tokens?: number;
}

const fixtureFiles = (name: string) => ["gguf", "json", "logits.f32"].map((ending) => dataFile(`${name}.${ending}`));

function readFixture(name: string): Fixture {
  const [path, json, logits] = fixtureFiles(name) as [string, string, string];
  const { tokens, ...rest } = JSON.parse(readFileSync(json, "utf8"));
  return {
    ...rest,
    path,
    tokens: Int32Array.from(tokens),
    logits: new Float32Array(readFileSync(logits).buffer.slice(0)),
  };
}

/** A loaded model, until the test is finished. */
async function load(path: string, cache: CacheType, device: DeviceOptions = scalar) {
  const model = await loadModel(path, { cache, ...device });
  onTestFinished(() => model.dispose());
  return model;
}

/** The logits after each of `tokens`, read in chunks of those lengths in turn. */
async function read(runtime: Runtime, tokens: Int32Array, ...lengths: number[]): Promise<Float32Array> {
  const sequence = runtime.sequence();
  const logits = new Float32Array(tokens.length * runtime.config.vocab);
  for (let from = 0, i = 0; from < tokens.length; i++) {
    const chunk = tokens.subarray(from, from + lengths[i % lengths.length]!);
    logits.set(await sequence.forward(chunk, "all"), from * runtime.config.vocab);
    from += chunk.length;
  }
  sequence.dispose();
  return logits;
}

describe("exact logits", () => {
  test.for(peers)("%s: no further from them than 1.1 x %d, llama.cpp's distance", async ([name, peer], context) => {
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens, logits } = readFixture(name);
    const { runtime } = await load(path, "f16");
    expect(nmse(await read(runtime, tokens, tokens.length), logits)).toBeLessThanOrEqual(allowance * peer);
  });

  // All that is left is float32's own rounding, in two blocks (test/llama-shapes.test.ts).
  test.for([
    "fixtures/tiny-f32",
    "fixtures/tiny-f16",
    "fixtures/tiny-bf16",
    "fixtures/tiny-theta1e6-linear4",
    "fixtures/tiny-odd",
    "cria-tiny/cria-tiny-f32",
  ])("%s: with an f32 cache, below 1e-9", async (name, context) => {
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens, logits } = readFixture(name);
    const { runtime } = await load(path, "f32");
    expect(nmse(await read(runtime, tokens, tokens.length), logits)).toBeLessThan(1e-9);
  });

  test.for(peers)("%s: the reference in float64 gives them", async ([name], context) => {
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens, logits } = readFixture(name);
    const { config, tensors } = await readLlama(path);
    const reference = forward64({ config, weights: fileRows(tensors) }, tokens).flatMap((row) => [...row]);
    // Rounding to float32 is off by up to 2^-24 of a value, 3.4e-8 in the mean: a square of 1.2e-15.
    expect(nmse(reference, logits)).toBeLessThan(3e-15);
  });
});

describe("greedy text", () => {
  test("cria-tiny in f32 says what its exact logits say", async (context) => {
    const name = "cria-tiny/cria-tiny-f32";
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens, prompt, prompt_tokens, greedy } = readFixture(name);
    const model = await load(path, "f16");
    const generation = model.generate(prompt!, { temperature: 0, maxTokens: tokens.length - prompt_tokens! });
    let text = prompt!;
    for await (const piece of generation) text += piece;
    expect(text).toBe(greedy);
    expect(generation.result!.tokens).toEqual([...tokens.subarray(prompt_tokens)]);
  });
});

describe.for(peers.map(([name]) => name))("%s: the same bits", (name) => {
  test.for(["f16", "f32"] as const)(
    "on every instruction set and any number of threads, %s cache",
    async (cache, context) => {
      needFiles(context, ...fixtureFiles(name));
      const { path, tokens } = readFixture(name);
      const want = await read((await load(path, cache)).runtime, tokens, tokens.length);
      for (const execution of executions) {
        const { runtime } = await load(path, cache, execution);
        expectSameBits(await read(runtime, tokens, tokens.length), want);
      }
    },
  );

  // Chunks that end within a block of the cache and at its border, of one token and of many.
  test.for([
    { lengths: [1] },
    { lengths: [7] },
    { lengths: [16] },
    { lengths: [17, 1, 2] },
    { lengths: [31, 5] },
    { lengths: [3, 40] },
  ])("in chunks of $lengths", async ({ lengths }, context) => {
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens } = readFixture(name);
    const { runtime } = await load(path, "f16", {});
    expectSameBits(await read(runtime, tokens, ...lengths), await read(runtime, tokens, tokens.length));
  });

  test("beside another text", async (context) => {
    needFiles(context, ...fixtureFiles(name));
    const { path, tokens } = readFixture(name);
    const { runtime } = await load(path, "f16", {});
    const other = tokens.toReversed().subarray(0, 40);
    const mine = tokens.subarray(0, 40);
    const alone = [await read(runtime, mine, 40), await read(runtime, other, 40)];
    // Both take blocks in turn, so that neither has them in order.
    const together = await Promise.all([read(runtime, mine, 5), read(runtime, other, 7)]);
    expectSameBits(together[0], alone[0]!);
    expectSameBits(together[1], alone[1]!);
    expect(runtime.pool.freeBlocks).toBe(runtime.pool.blocks);
  });
});
