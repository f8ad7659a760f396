import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import { loadModel, type Model, type ModelOptions, tinyModel } from "../lib/index.js";
import { expectSameBits } from "./support/compare.js";
import { temporaryFolder } from "./support/gguf-writer.js";

async function load(options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(tinyModel, { contextLength: 256, onWarning: () => undefined, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

/** A name for a file, in a folder that goes with the test. */
async function newFile(): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  return join(folder.path, "sequence.cria");
}

const counting = (count: number) => Int32Array.from({ length: count }, (_, i) => 3 + i);
const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

describe("a saved sequence", () => {
  test.each(["f32", "f16", "q8_0"] as const)("goes on as the one that was saved (%s)", async (cache) => {
    const path = await newFile();
    const first = await load({ cache });
    using sequence = first.sequence();
    await sequence.forward(counting(45), "last");
    const { bytes } = await first.saveSequence(sequence, path);
    expect(readFileSync(path).length).toBe(bytes);

    const second = await load({ cache });
    using again = await second.loadSequence(path);
    expect(again.tokens).toEqual(sequence.tokens);
    const next = Int32Array.of(77, 5, 80);
    expectSameBits(await again.forward(next, "all"), await sequence.forward(next, "all"));
  });

  test("that had given its blocks away is read again first", async () => {
    const model = await load({ contextLength: 64, preempt: true });
    const path = await newFile();
    using sequence = model.sequence();
    await sequence.forward(counting(40), "last");
    using other = model.sequence();
    await other.forward(counting(60).reverse(), "last");
    expect(model.runtime.scheduler.preemptions).toBe(1);
    await model.saveSequence(sequence, path);
    other.dispose();
    using again = await (await load({ contextLength: 64 })).loadSequence(path);
    expect(again.tokens).toEqual(counting(40));
  });

  test("that half remembers what was removed still does", async () => {
    const path = await newFile();
    const model = await load();
    using sequence = model.sequence();
    await sequence.forward(counting(50), "last");
    await sequence.removeRange(4, 20);
    await model.saveSequence(sequence, path);
    using again = await (await load()).loadSequence(path);
    const next = Int32Array.of(9, 8, 7);
    expectSameBits(await again.forward(next, "all"), await sequence.forward(next, "all"));
  });

  test("is saved by its own model alone", async () => {
    const path = await newFile();
    const [model, other] = [await load(), await load()];
    using sequence = other.sequence();
    await sequence.forward(counting(5), "none");
    await expect(model.saveSequence(sequence, path)).rejects.toMatchObject({
      code: "ERR_CRIA_ARGUMENT",
      message: "sequence: must be one of this model, not of another",
    });
    const save = () => Promise.resolve({ bytes: 1 });
    for (const none of [null, {}, { save, belongsTo: () => true }]) {
      await expect(model.saveSequence(none as never, path)).rejects.toMatchObject({
        code: "ERR_CRIA_ARGUMENT",
        message: `sequence: must be a sequence of this model, not ${none === null ? "null" : "Object"}`,
      });
    }
    expect(existsSync(path)).toBe(false);
  });

  test("is not found by others that begin alike, for it may be forged", async () => {
    const path = await newFile();
    const first = await load();
    using sequence = first.sequence();
    await sequence.forward(counting(45), "last");
    await first.saveSequence(sequence, path);
    const second = await load();
    using loaded = await second.loadSequence(path);
    await loaded.forward(counting(40), "last");
    using fresh = second.sequence();
    await fresh.forward(counting(45), "last");
    expect(second.runtime.pool.statistics.hits).toBe(0);
  });

  test("that is damaged, cut or of another cache is refused, and leaves nothing behind", async () => {
    const path = await newFile();
    const model = await load();
    const sequence = model.sequence();
    await sequence.forward(counting(45), "last");
    await model.saveSequence(sequence, path);
    sequence.dispose();
    const whole = readFileSync(path);
    const refused = async (bytes: Uint8Array, by: Model = model) => {
      writeFileSync(path, bytes);
      await expect(by.loadSequence(path)).rejects.toMatchObject({ name: "CriaFileError" });
      expect(allFree(by)).toBe(true);
    };
    await refused(whole.subarray(0, whole.length - 1));
    await refused(new Uint8Array(0));
    for (const at of [0, 30, 60, 115, 400, whole.length - 40, whole.length - 1]) {
      const bytes = Uint8Array.from(whole);
      bytes[at]! ^= 16;
      await refused(bytes);
    }
    await refused(whole, await load({ cache: "f32" }));
  });

  test("needs room, and a sequence that is not reading", async () => {
    const path = await newFile();
    const model = await load();
    using sequence = model.sequence();
    const reading = sequence.forward(counting(45), "last");
    await expect(model.saveSequence(sequence, path)).rejects.toMatchObject({ code: "ERR_CRIA_STATE" });
    await reading;
    await model.saveSequence(sequence, path);
    const small = await load({ contextLength: 32 });
    await expect(small.loadSequence(path)).rejects.toMatchObject({ name: expect.stringMatching(/Error$/) });
    expect(allFree(small)).toBe(true);
  });
});
