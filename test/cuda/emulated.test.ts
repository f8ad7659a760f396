/** The CUDA backend, whole, on its emulation: what a GPU would do with the same calls. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { Device } from "../../lib/device.js";
import { blockBytes } from "../../lib/kv-block.js";
import { KvPool } from "../../lib/kv-pool.js";
import { loadModel, type Model } from "../../lib/model.js";
import { type CacheType, type NativeBatch, native } from "../../lib/native.js";
import { packageRoot } from "../../lib/package.js";
import { tinyModel } from "../../lib/tiny.js";
import { expectSameBits } from "../support/compare.js";
import { dataFile, needFiles } from "../support/data.js";
import { nmse } from "../support/float64.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";

const emulation = join(packageRoot, "build/Release/libcria_cuda_emulated.so");
const found = native.deviceDescribe("cuda-emulated");
const emulated = { device: "cuda-emulated" } as const;
const onCpu = { device: "cpu" } as const;

const quiet = { onWarning: () => undefined };
const textOf = async (model: Model, prompt: string, maxTokens: number) => {
  let text = "";
  for await (const piece of model.generate(prompt, { temperature: 0, maxTokens })) text += piece;
  return text;
};

test("the emulation loads where it is built", ({ skip }) => {
  if (!existsSync(emulation)) skip(`${emulation} is not there: "npm run build:native" builds it`);
  expect(found).toMatchObject({ available: true });
});

test.runIf(found.available)("the emulated GPU is, opened, what it is described as", () => {
  using device = new Device(emulated);
  expect(device.info).toMatchObject({ kind: found.kind, name: found.available && found.name });
});

describe.runIf(found.available)("a model on the emulated GPU", () => {
  test("tells the CPU's story: stories260K", { timeout: 120_000 }, async (context) => {
    const path = dataFile("stories260K", "stories260Ktok512.gguf");
    const greedy = dataFile("stories260K", "greedy.txt");
    needFiles(context, path, greedy);
    using model = await loadModel(path, { contextLength: 256, ...quiet, ...emulated });
    const text = await textOf(model, "", 200);
    expect(text.trimStart()).toBe(readFileSync(greedy, "utf8").trimStart());
  });

  test.for(["f32", "q8_0", "q4_0"])(
    "tells the CPU's story: cria-tiny in %s",
    { timeout: 60_000 },
    async (type, context) => {
      const path = dataFile("cria-tiny", `cria-tiny-${type}.gguf`);
      needFiles(context, path);
      using cpu = await loadModel(path, { ...quiet, ...onCpu });
      using gpu = await loadModel(path, { ...quiet, ...emulated });
      expect(await textOf(gpu, "Once upon a time", 40)).toBe(await textOf(cpu, "Once upon a time", 40));
    },
  );
});

describe.runIf(found.available)("weights with scales of scales on the emulated GPU", () => {
  // As far from the exact logits as test/fixtures.test.ts lets the CPU be.
  test.for<[string, number]>([
    ["q4_k", 1.1 * 6.5e-8],
    ["q5_k", 1.1 * 6.3e-8],
    ["q6_k", 1.1 * 9.1e-4],
  ])(
    "%s has the logits of a float64 pass, in a prompt and token by token",
    { timeout: 120_000 },
    async ([type, bound], context) => {
      const files = ["gguf", "json", "logits.f32"].map((ending) => dataFile("fixtures", `tiny-${type}.${ending}`));
      needFiles(context, ...files);
      const [path, json, logits] = files as [string, string, string];
      const tokens = Int32Array.from(JSON.parse(readFileSync(json, "utf8")).tokens);
      const exact = new Float32Array(readFileSync(logits).buffer.slice(0));
      using model = await loadModel(path, { cache: "f32", ...emulated, ...quiet });
      const together = await model.sequence().forward(tokens, "all");
      expect(nmse(together, exact)).toBeLessThan(bound);
      const apart = model.sequence();
      for (const [i, token] of tokens.subarray(0, 4).entries()) {
        const vocab = model.config.vocab;
        expectSameBits(
          await apart.forward(Int32Array.of(token), "last"),
          together.subarray(i * vocab, (i + 1) * vocab),
        );
      }
    },
  );

  test.each(["q4_1", "q5_0", "q5_1", "q2_K", "q3_K", "iq4_nl"] as const)("%s is refused by name", async (type) => {
    await using folder = await temporaryFolder();
    const file = llamaFile({ dim: 256, ffn: 256, heads: 4, type: "q4_K" });
    const tensor = file.tensors.find(({ name }) => name === "blk.1.attn_v.weight")!;
    tensor.type = type;
    const path = await folder.write("model.gguf", file);
    await expect(loadModel(path, { ...emulated, ...quiet })).rejects.toMatchObject({
      name: "CriaFileError",
      code: "ERR_CRIA_UNSUPPORTED",
      subject: "blk.1.attn_v.weight",
      message: expect.stringContaining(`, not ${type}; device "cpu" runs it`),
    });
  });
});

describe.runIf(found.available)("the cache on the emulated GPU", { timeout: 60_000 }, () => {
  let gpu: Model, cpu: Model;
  beforeAll(async () => {
    gpu = await loadModel(tinyModel, { cacheSize: { tokens: 2048 }, ...emulated });
    cpu = await loadModel(tinyModel, { cacheSize: { tokens: 2048 }, ...onCpu });
  });
  afterAll(() => {
    gpu.dispose();
    cpu.dispose();
  });

  const tokens = Int32Array.from({ length: 40 }, (_, i) => 300 + ((i * 37) % 200));
  const last = (model: Model, read: Int32Array) => model.sequence().forward(read, "last");

  /** The largest difference over the largest magnitude; infinite where a number is not one. */
  const difference = (actual: Float32Array, expected: Float32Array) => {
    const of = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const apart = of(actual.map((value, i) => value - expected[i]!)) / of(expected);
    return Number.isFinite(apart) ? apart : Number.POSITIVE_INFINITY;
  };

  test("gives a token the same logits in any batch and any chunks", async () => {
    const whole = await last(gpu, tokens);
    const chunked = gpu.sequence();
    await chunked.forward(tokens.subarray(0, 23), "none");
    await chunked.forward(tokens.subarray(23, 39), "none");
    const [alone, ...beside] = await Promise.all([
      chunked.forward(tokens.subarray(39), "last"),
      ...[3, 17, 33].map((length) => last(gpu, tokens.subarray(0, length))),
    ]);
    expect(alone).toEqual(whole);
    expect(beside[2]).toEqual(await last(gpu, tokens.subarray(0, 33)));
  });

  test("is shared by forks, which do not see what is written afterwards", async () => {
    const first = gpu.sequence();
    await first.forward(tokens.subarray(0, 21), "none");
    const second = first.fork();
    const [a, b] = await Promise.all([
      first.forward(tokens.subarray(21, 24), "last"),
      second.forward(tokens.subarray(30, 33), "last"),
    ]);
    expect(a).toEqual(await last(gpu, tokens.subarray(0, 24)));
    const other = Int32Array.of(...tokens.subarray(0, 21), ...tokens.subarray(30, 33));
    expect(b).toEqual(await last(gpu, other));
    first.truncate(20);
    expect(await first.forward(tokens.subarray(20, 24), "last")).toEqual(a);
  });

  test("loses tokens from its middle as the CPU's does", async () => {
    const read = async (model: Model) => {
      const sequence = model.sequence();
      await sequence.forward(tokens, "none");
      await sequence.removeRange(4, 11);
      return sequence.forward(Int32Array.of(301), "last");
    };
    // Keys are rounded to f16 twice, and the two devices' may fall to either side.
    expect(difference(await read(gpu), await read(cpu))).toBeLessThan(0.02);
  });

  test("is saved and loaded, from one device to the other", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cria-emulated-"));
    try {
      const path = join(folder, "sequence.cria");
      const sequence = gpu.sequence();
      await sequence.forward(tokens.subarray(0, 39), "none");
      await gpu.saveSequence(sequence, path);
      const next = (loaded: Awaited<ReturnType<Model["loadSequence"]>>) => loaded.forward(tokens.subarray(39), "last");
      const whole = await last(gpu, tokens);
      expect(await next(await gpu.loadSequence(path))).toEqual(whole);
      expect(difference(await next(await cpu.loadSequence(path)), whole)).toBeLessThan(0.02);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each<[CacheType, CacheType]>([
    ["f32", "f32"],
    ["f16", "f32"],
    ["q8_0", "f16"],
    ["q8_0", "q8_0"],
  ])("of keys in %s and values in %s is near the CPU's", async (keys, values) => {
    const options = { cache: { keys, values } };
    using there = await loadModel(tinyModel, { ...options, ...emulated });
    using here = await loadModel(tinyModel, { ...options, ...onCpu });
    expect(difference(await last(there, tokens), await last(here, tokens))).toBeLessThan(0.02);
  });

  test("is given back: texts side by side, one of them stopped, leave no block", async () => {
    const stop = new AbortController();
    const texts = ["Once", "The dog", "A red ball"].map(async (prompt, i) => {
      let text = "";
      const options = { temperature: 0, maxTokens: 8, ...(i === 1 && { signal: stop.signal }) };
      for await (const piece of gpu.generate(prompt, options)) {
        text += piece;
        if (i === 1) stop.abort();
      }
      return text;
    });
    const [first, second, third] = await Promise.allSettled(texts);
    expect(second).toMatchObject({ status: "rejected", reason: { code: "ERR_CRIA_ABORTED" } });
    expect(first).toMatchObject({ value: await textOf(gpu, "Once", 8) });
    expect(third).toMatchObject({ value: await textOf(gpu, "A red ball", 8) });
  });

  test("is decoded without the host: the tokens of runs one after another, past a split of 512 keys", async () => {
    const past = 508;
    const steps = 8;
    const pool = await newPool(gpu);
    const { program } = gpu.runtime;
    const options = { steps, candidates: 1, sampling: [{ temperature: 0, topP: 1, seed: 0 }] };
    // The first decode puts each op on the stream, the second replays a graph of them.
    const decoded = await program.decode(pool.cache, decodeBatch(pool, past, 301), options);
    expect(await program.decode(pool.cache, decodeBatch(pool, past, 301), options)).toEqual(decoded);

    const vocab = gpu.config.vocab;
    let token = 301;
    for (let step = 0; step < steps; step++) {
      const logits = await program.run(pool.cache, decodeBatch(pool, past + step, token));
      expect(logits).toHaveLength(vocab);
      token = logits.indexOf(Math.max(...logits));
      expect(decoded[step]).toBe(token);
    }
  });

  test("is sampled from by seed and position", async () => {
    const pool = await newPool(gpu);
    const tokensOf = (temperature: number, seed: number) => {
      const options = { steps: 5, candidates: 40, sampling: [{ temperature, topP: 0.97, seed }] };
      return gpu.runtime.program.decode(pool.cache, decodeBatch(pool, 16, 301), options);
    };
    const sampled = await tokensOf(3, 99);
    expect(await tokensOf(3, 99)).toEqual(sampled);
    expect(await tokensOf(3, 100)).not.toEqual(sampled);
    expect(await tokensOf(1e-3, 99)).toEqual(await tokensOf(0, 100));
  });
});

/** A pool of zeros, which attention weighs alike. */
async function newPool({ runtime }: Model): Promise<KvPool> {
  const pool = new KvPool(runtime.device, runtime.pool.shape, 1024);
  const blocks = Int32Array.from({ length: pool.blocks }, (_, i) => i);
  await native.cacheWrite(pool.cache, blocks, new Uint8Array(blocks.length * blockBytes(pool.shape)));
  return pool;
}

/** One token of one sequence that has all blocks of the pool, last ones first. */
function decodeBatch(pool: KvPool, past: number, token: number): NativeBatch {
  return {
    tokens: Int32Array.of(token),
    positions: Int32Array.of(past),
    lengths: Int32Array.of(1),
    pasts: Int32Array.of(past),
    blockCounts: Int32Array.of(pool.blocks),
    blocks: Int32Array.from({ length: pool.blocks }, (_, i) => pool.blocks - 1 - i),
    outputs: Int32Array.of(0),
  };
}
