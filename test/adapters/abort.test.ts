/** What stops the loading of a model with adapters. */
import { afterAll, beforeAll, expect, test } from "vitest";

import { type AdapterOption, loadModel } from "../../lib/index.js";
import { native } from "../../lib/native.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import { llamaFile, type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { knownUpdates, loraGguf } from "../support/lora.js";

let folder: TemporaryFolder;
let path: string;
let adapters: AdapterOption[];
beforeAll(async () => {
  folder = await temporaryFolder();
  path = await folder.write("model.gguf", llamaFile({ type: "f32" }));
  const { config } = await readLlama(path);
  const updates = knownUpdates(config, /attn_[qv]/, { seed: 1 });
  adapters = [
    { path: await folder.write("one.gguf", loraGguf(updates)) },
    { path: await folder.write("other.gguf", loraGguf(updates)) },
  ];
});
afterAll(() => folder[Symbol.asyncDispose]());

/** A signal that aborts when it is asked the nth time; how often it was, and how often when the last tensor was packed. */
function askedSignal(nth: number) {
  const { signal } = new AbortController();
  const asked = { inAll: 0, forWeights: 0 };
  Object.defineProperty(signal, "aborted", { get: () => ++asked.inAll >= nth });
  const onProgress = () => {
    asked.forWeights = asked.inAll;
  };
  return { asked, options: { signal, onProgress, adapters } };
}

const aborted = expect.objectContaining({ code: "ERR_CRIA_ABORTED", message: "the loading was cancelled" });

test.each([false, true])(
  "is heard before each adapter and after all, merged %s, and leaves nothing",
  async (merged) => {
    const { asked, options } = askedSignal(Number.POSITIVE_INFINITY);
    (await loadModel(path, { ...options, mergeAdapters: merged })).dispose();
    const before = native.handleCounts();
    for (let nth = 1; nth <= asked.inAll; nth++) {
      const { options } = askedSignal(nth);
      await expect(loadModel(path, { ...options, mergeAdapters: merged })).rejects.toThrow(aborted);
      expect(native.handleCounts()).toEqual(before);
    }
    const { options: without, asked: plain } = askedSignal(Number.POSITIVE_INFINITY);
    (await loadModel(path, { ...without, adapters: [] })).dispose();
    if (merged) {
      // Before each of the two is read, and before the one part of each of four matrices.
      expect(asked.inAll - plain.inAll).toBe(2 + 4);
    } else {
      // Besides, before they are set.
      expect(asked.inAll - plain.inAll).toBe(2 + 1);
      expect(asked.inAll - asked.forWeights).toBe(2 + 1 + 1);
    }
  },
);

test.each([false, true])("is heard when the last tensor is packed, merged %s", async (mergeAdapters) => {
  const before = native.handleCounts();
  const controller = new AbortController();
  const onProgress = (loaded: number, total: number) => {
    if (loaded === total) controller.abort();
  };
  const { signal } = controller;
  await expect(loadModel(path, { adapters, mergeAdapters, signal, onProgress })).rejects.toThrow(aborted);
  expect(native.handleCounts()).toEqual(before);
});
