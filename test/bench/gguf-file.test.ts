import { open } from "node:fs/promises";
import { join } from "node:path";
import { gguf } from "@huggingface/gguf";
import { describe, expect, it } from "vitest";

import { writeGguf } from "../../bench/gguf-file.js";
import { randomWeights, syntheticModel } from "../../bench/synthetic.js";
import { Device } from "../../lib/device.js";
import { loadModel } from "../../lib/model.js";
import type { Runtime } from "../../lib/runtime.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import type { LlamaConfig, WeightType } from "../../lib/weights/source.js";
import { temporaryFolder } from "../support/gguf-writer.js";

const config: LlamaConfig = {
  layers: 2,
  dim: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  ffn: 96,
  vocab: 300,
  contextLength: 64,
  eps: 2 ** -17,
  rope: { theta: 5000, scale: 1, dim: 16, pairing: "adjacent" },
};

async function written(path: string, type: WeightType, tied = false): Promise<void> {
  using device = new Device({ threads: 1 });
  await writeGguf(path, { name: "random", config, source: randomWeights(config, type, tied) }, device);
}

async function logitsOf(runtime: Runtime): Promise<Float32Array> {
  using sequence = runtime.sequence();
  return await sequence.forward(Int32Array.of(1, 290, 7, 299), "all");
}

describe("writeGguf", () => {
  it.for(["f32", "f16", "bf16", "q8_0", "q4_0"] as const)(
    "%s: the file's logits are those of the weights in memory",
    async (type) => {
      await using folder = await temporaryFolder();
      const path = join(folder.path, "model.gguf");
      await written(path, type);
      using device = new Device({ threads: 1 });
      const { runtime, store } = await syntheticModel(device, config, type, { contextLength: 16, tied: false });
      const expected = await logitsOf(runtime);
      runtime.dispose();
      store.dispose();
      using model = await loadModel(path, { threads: 1, contextLength: 16 });
      const logits = await logitsOf(model.runtime);
      expect(new Set(expected).size).toBeGreaterThan(1000); // not zeros, nor NaN
      expect(Buffer.from(logits.buffer)).toEqual(Buffer.from(expected.buffer));
    },
  );

  it("the shape is read back, and a vocabulary that turns text into tokens and back", async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "model.gguf");
    await written(path, "q4_0");
    const index = await readLlama(path);
    expect(index.config).toEqual(config);
    expect(index.name).toBe("random");
    expect(index.vocabulary).toMatchObject({ bos: 1, eos: 2, unknown: 0, addBos: true });
    using model = await loadModel(path, { threads: 1 });
    const text = "any text, ü 火";
    expect(model.tokenizer.decode(model.tokenizer.encode(text))).toBe(text);
  });

  it.for([true, false])("@huggingface/gguf reads the same (tied: %j)", async (tied) => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "model.gguf");
    await written(path, "q8_0", tied);
    const { metadata, tensorInfos } = await gguf(path, { allowLocalFile: true });
    expect(metadata).toMatchObject({
      version: 3,
      "general.architecture": "llama",
      "llama.block_count": 2,
      "llama.attention.head_count_kv": 2,
      "llama.rope.freq_base": 5000,
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.eos_token_id": 2,
    });
    expect(tensorInfos.map(({ name }) => name)).toEqual([...randomWeights(config, "q8_0", tied).tensors.keys()]);
    expect(tensorInfos.find(({ name }) => name === "blk.1.ffn_down.weight")!.shape).toEqual([96n, 64n]);
    expect(tensorInfos.find(({ name }) => name === "output_norm.weight")!.shape).toEqual([64n]);
  });

  it("ends with the last tensor", async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "model.gguf");
    await written(path, "q8_0");
    const ends = [...(await readLlama(path)).tensors.values()].map(({ offset, bytes }) => offset + bytes);
    await using file = await open(path);
    expect((await file.stat()).size).toBe(Math.max(...ends));
  });

  it("names a file that cannot be written", async () => {
    await expect(written("/absent/model.gguf", "q4_0")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/^\/absent\/model\.gguf: cannot be written: no such file or directory$/),
    });
    await expect(written("/dev/full", "q4_0")).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/^\/dev\/full: cannot be written: no space left on device$/),
    });
  });
});
