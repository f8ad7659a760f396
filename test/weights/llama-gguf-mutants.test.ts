import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { expect, test } from "vitest";

import { CriaError } from "../../lib/errors.js";
import { type LlamaGguf, readLlama } from "../../lib/weights/llama-gguf.js";
import { packageFile } from "../support/data.js";
import { encodeGguf, llamaFile, string, temporaryFolder, u32 } from "../support/gguf-writer.js";

/** Far above what the slowest mutant takes, and below what a loop over a hostile count would. */
const mostMilliseconds = 5000;

/** A few headers' worth of garbage; a hostile count believed would take gigabytes. */
const mostGrowth = 256 * 2 ** 20;

/** A change of a file's bytes. `at` is a share of the header. */
type Mutation =
  | { kind: "cut"; at: number }
  | { kind: "repeat"; at: number }
  | { kind: "byte"; at: number; value: number }
  | { kind: "u32"; at: number; value: number }
  | { kind: "u64"; at: number; value: bigint };

const at = fc.nat(2 ** 20 - 1).map((n) => n / 2 ** 20); // fc.double would mostly give exponents far below 0

// Around the edges of the integers that a reader might hold a count, a size or an offset in.
const u32s = fc.oneof(
  fc.constantFrom(0, 1, 2, 9, 12, 13, 2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1),
  fc.nat(2 ** 31 - 1),
);
const u64s = fc.oneof(
  fc.constantFrom(0n, 1n, 2n ** 16n, 2n ** 20n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 62n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant("cut"), at }),
  fc.record({ kind: fc.constant("repeat"), at }),
  fc.record({ kind: fc.constant("byte"), at, value: fc.nat(255) }),
  fc.record({ kind: fc.constant("u32"), at, value: u32s }),
  fc.record({ kind: fc.constant("u64"), at, value: u64s }),
);

function mutate(bytes: Buffer, header: number, change: Mutation): Buffer {
  const position = Math.min(Math.floor(change.at * header), bytes.length - 8);
  if (change.kind === "cut") return bytes.subarray(0, position);
  // A piece of the header stands twice and moves what follows.
  if (change.kind === "repeat") return Buffer.concat([bytes.subarray(0, position + 8), bytes.subarray(position)]);
  const changed = Buffer.from(bytes);
  if (change.kind === "byte") changed[position] = change.value;
  if (change.kind === "u32") changed.writeUInt32LE(change.value, position);
  if (change.kind === "u64") changed.writeBigUInt64LE(change.value, position);
  return changed;
}

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
