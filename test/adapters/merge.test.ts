/** LoRA adapters that are merged into the weights as these are loaded. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadModel, tinyModel } from "../../lib/index.js";
import { native } from "../../lib/native.js";
import { packModel } from "../../lib/pack.js";
import type { WeightType } from "../../lib/weights/source.js";
import { expectSameBits } from "../support/compare.js";
import { forward64, nmse, type WeightRows } from "../support/float64.js";
import { llamaFile, type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { toBrainHalf, toHalf } from "../support/half.js";
import { knownUpdates, loraGguf, mergedRows, tinyAdapter } from "../support/lora.js";
import { load, logitsOf, smallLlama, tokens } from "../support/small-llama.js";

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

const smallModel = (type: WeightType, tied = false) =>
  smallLlama(folder, `${type}${tied ? "-tied" : ""}.gguf`, { seed: 21, type, tied });

/** The rows rounded to a type as the model's are. */
function rounded(rows: WeightRows, base: WeightRows): WeightRows {
  const tensors = new Map(
    [...rows.tensors].map(([name, info]) => [name, { ...info, type: base.tensors.get(name)!.type }]),
  );
  return {
    tensors,
    read(name, row, count) {
      const bytes = rows.read(name, row, count);
      const { type, rows: all } = tensors.get(name)!;
      if (type === "f32" || all === 1) return bytes;
      const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
      return new Uint8Array(Uint16Array.from(floats, type === "f16" ? toHalf : toBrainHalf).buffer);
    },
  };
}

describe("the logits are those of merged weights in float64", () => {
  /** What float32's rounding leaves; in the others a weight in thousands is rounded to another neighbour. */
  test.each<[WeightType, number]>([
    ["f32", 1e-11],
    ["f16", 1e-9],
    ["bf16", 1e-7],
  ])("of %s", async (type, bound) => {
    const { path, config, rows } = await smallModel(type);
    const one = knownUpdates(config, /./, { seed: 22 });
    const other = knownUpdates(config, /attn_k|ffn/, { seed: 23, rank: 20 });
    const adapters = [
      { path: await folder.write("one.gguf", loraGguf(one)), scale: 0.75 },
      { path: await folder.write("other.gguf", loraGguf(other)), scale: -1 },
    ];
    const merged = await load(path, { adapters, mergeAdapters: true });
    expect(merged.adapters).toEqual([]);
    const sum = mergedRows(rows, [
      [one, 0.75],
      [other, -1],
    ]);
    const exact = forward64({ config, weights: rounded(sum, rows) }, tokens).flatMap((logits) => [...logits]);
    const logits = await logitsOf(merged);
    expect(nmse(logits, exact)).toBeLessThan(bound);
    // Rounding the merged weights of f16 and bf16 is what they are off by from those beside.
    const beside = nmse(await logitsOf(await load(path, { adapters })), logits);
    expect(beside).toBeLessThan({ f32: 1e-11, f16: 1e-6, bf16: 1e-4 }[type as "f32"]);
    if (type !== "f32") expect(beside).toBeGreaterThan(bound);
  });
});

test("the logits of merged weights in q8_0 are off by what rounding to it costs", async () => {
  const { path, config, rows } = await smallModel("q8_0");
  const updates = knownUpdates(config, /blk/, { seed: 27 });
  const adapters = [{ path: await folder.write("q8_0-lora.gguf", loraGguf(updates)) }];
  const exact = forward64({ config, weights: mergedRows(rows, [[updates, 1]]) }, tokens).flatMap((logits) => [
    ...logits,
  ]);
  const logits = await logitsOf(await load(path, { adapters, mergeAdapters: true }));
  expect(nmse(logits, exact)).toBeLessThan(1e-3);
  expect(nmse(await logitsOf(await load(path)), exact)).toBeGreaterThan(1e-2);
});

test("float weights become quantised ones after the merge, which is rounded once", async () => {
  const { path, config, rows } = await smallModel("f32");
  const updates = knownUpdates(config, /blk/, { seed: 28 });
  const merged = mergedRows(rows, [[updates, 1]]);
  const data = (name: string, _: WeightType, count: number) => Uint8Array.from(merged.read(name, 0, count));
  const file = await folder.write("merged.gguf", llamaFile({ type: "f32", data }));
  const adapters = [{ path: await folder.write("quantised.gguf", loraGguf(updates)) }];
  const logits = await logitsOf(await load(path, { adapters, mergeAdapters: true, quantize: "q4_0" }));
  expect(nmse(logits, await logitsOf(await load(file, { quantize: "q4_0" })))).toBeLessThan(1e-4);
});

test("a scale of 0 merges nothing, and others can be set beside what was merged", async () => {
  const { path, config } = await smallModel("f32");
  const adapter = await folder.write("some.gguf", loraGguf(knownUpdates(config, /attn/, { seed: 24 })));
  const plain = await logitsOf(await load(path));
  const none = await load(path, { adapters: [{ path: adapter, scale: 0 }], mergeAdapters: true });
  expectSameBits(await logitsOf(none), plain);
  const model = await load(path, { adapters: [{ path: adapter }], mergeAdapters: true });
  const merged = await logitsOf(model);
  expect(nmse(merged, plain)).toBeGreaterThan(1e-6);
  await model.setAdapters([{ adapter: await model.loadAdapter(adapter), scale: -1 }]);
  expect(nmse(await logitsOf(model), plain)).toBeLessThan(1e-11);
  await model.setAdapters([]);
  expectSameBits(await logitsOf(model), merged);
});

test("adapters to merge must be given, though there may be none", async () => {
  const { path } = await smallModel("f32");
  await expect(load(path, { mergeAdapters: true })).rejects.toMatchObject({
    code: "ERR_CRIA_ARGUMENT",
    message: "mergeAdapters: must come with adapters, which may be none: []",
  });
  const none = await load(path, { adapters: [], mergeAdapters: true });
  expectSameBits(await logitsOf(none), await logitsOf(await load(path)));
});

test("a saved sequence is of the merged model", async () => {
  const { path, config } = await smallModel("f32");
  const adapter = await folder.write("saved.gguf", loraGguf(knownUpdates(config, /attn/, { seed: 25 })));
  const options = { adapters: [{ path: adapter, scale: 1e-6 }], mergeAdapters: true };
  const model = await load(path, options);
  const sequence = model.sequence();
  await sequence.forward(tokens, "none");
  await model.saveSequence(sequence, `${folder.path}/merged.cria`);
  await expect((await load(path)).loadSequence(`${folder.path}/merged.cria`)).rejects.toThrow(/fingerprint/);
  expect((await (await load(path, options)).loadSequence(`${folder.path}/merged.cria`)).length).toBe(tokens.length);
});

test("what cannot be merged is refused by name before the weights are read, and leaves nothing behind", async () => {
  const { path: tied, config } = await smallModel("f32", true);
  const output = await folder.write("output.gguf", loraGguf(knownUpdates(config, /^output/, { seed: 26 })));
  const packed = `${folder.path}/packed.cria`;
  await packModel(tinyModel, packed);
  const before = native.handleCounts();
  const merge = (path: string, adapter: string) =>
    loadModel(path, { adapters: [{ path: adapter }], mergeAdapters: true, onWarning: () => undefined });
  const unsupported = (message: RegExp) =>
    expect.objectContaining({ code: "ERR_CRIA_UNSUPPORTED", message: expect.stringMatching(message) });
  await expect(merge(tied, output)).rejects.toThrow(unsupported(/output\.weight: must not be embedding and output/));
  await expect(merge(packed, await tinyAdapter(folder))).rejects.toThrow(
    unsupported(/packed\.cria: must not be packed/),
  );
  expect(native.handleCounts()).toEqual(before);
});
