import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";

import { CriaError } from "../../lib/errors.js";
import { type LlamaGguf, readLlama } from "../../lib/weights/llama-gguf.js";
import { packageFile } from "../support/data.js";
import { encodeGguf, llamaFile, string, temporaryFolder, u32 } from "../support/gguf-writer.js";
import { mutate, mutation } from "../support/mutants.js";

/** Far above what the slowest mutant takes, and below what a loop over a hostile count would. */
const mostMilliseconds = 5000;

/** A few headers' worth of garbage; a hostile count believed would take gigabytes. */
const mostGrowth = 256 * 2 ** 20;

function expectSound(model: LlamaGguf, size: number): void {
  for (const { offset, bytes } of model.tensors.values()) {
    expect(Number.isSafeInteger(offset) && offset >= 24 && bytes > 0 && offset + bytes <= size).toBe(true);
  }
  const { vocab } = model.config;
  const { pieces, scores, types } = model.vocabulary;
  expect([pieces.length, scores.length, types.length]).toEqual([vocab, vocab, vocab]);
}

const small = { ...llamaFile({ dim: 32, heads: 2, kvHeads: 1, ffn: 32, vocab: 8, layers: 1 }) };
const scaled = {
  ...small,
  version: 2,
  alignment: 64,
  metadata: { ...small.metadata, "general.alignment": u32(64), "llama.rope.scaling.type": string("linear") },
};

test.each([
  ["a small file", 2000, async () => encodeGguf(small)],
  ["a small file of version 2", 2000, async () => encodeGguf(scaled)],
  ["the model that comes with cria", 500, () => readFile(packageFile("models", "cria-tiny-q8_0.gguf"))],
] as const)("%s, cut and mutated %i times, is read or refused", async (_, runs, load) => {
  await using folder = await temporaryFolder();
  const sound = await load();
  const path = join(folder.path, "model.gguf");
  await writeFile(path, sound);
  const header = Math.min(...[...(await readLlama(path)).tensors.values()].map((tensor) => tensor.offset));
  const before = process.resourceUsage().maxRSS * 1024;
  const outcomes = { read: 0, refused: 0 };

  const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (changes) => {
    const mutant = changes.reduce((bytes, change) => (bytes.length > 8 ? mutate(bytes, header, change) : bytes), sound);
    await writeFile(path, mutant);
    const start = performance.now();
    try {
      expectSound(await readLlama(path), mutant.length);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof CriaError)) throw error;
      expect(error.message.startsWith(path)).toBe(true);
      outcomes.refused++;
    }
    expect(performance.now() - start).toBeLessThan(mostMilliseconds);
  });
  await fc.assert(property, { numRuns: runs, seed: 20_230_227 });

  expect(process.resourceUsage().maxRSS * 1024 - before).toBeLessThan(mostGrowth);
  // Both must occur, or the mutants test nothing.
  expect(outcomes.read).toBeGreaterThan(runs / 100);
  expect(outcomes.refused).toBeGreaterThan(runs / 2);
});
