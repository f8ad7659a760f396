import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { writeGguf } from "../bench/gguf-file.js";
import { randomWeights } from "../bench/synthetic.js";
import { type CacheSize, poolTokens } from "../lib/cache-size.js";
import { CriaError, Device, estimateMemory, loadModel, type MemoryEstimate, tinyModel } from "../lib/index.js";
import { blockBytes } from "../lib/kv-block.js";
import { type CacheShape, native } from "../lib/native.js";
import { packModel } from "../lib/pack.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { needFiles, packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

/** 2 layers' K and V of 4 heads of 8 dimensions in f16: 4,096 bytes a block. */
const shape: CacheShape = { keys: "f16", values: "f16", layers: 2, kvHeads: 4, headDim: 8 };
const block = 4096;

describe("the cache's size", () => {
  const sized = (size?: CacheSize, free = 10 * block) => poolTokens(shape, 100, size, free);

  test("is one context, or the tokens asked for, in whole blocks", () => {
    expect(blockBytes(shape)).toBe(block);
    expect(sized()).toBe(112);
    expect(sized({ tokens: 1 })).toBe(16);
    expect(sized({ tokens: 4096 })).toBe(4096);
    expect(sized({ tokens: 4097 })).toBe(4112);
  });

  test("is what fits a number of bytes", () => {
    expect(sized({ bytes: block })).toBe(16);
    expect(sized({ bytes: 3 * block - 1 })).toBe(32);
    expect(sized({ bytes: 2 ** 40 })).toBe(2 ** 32 / 2); // no more than the pool counts
  });

  test("is a share of the free memory, and no less than a block", () => {
    expect(sized({ share: 1 })).toBe(160);
    expect(sized({ share: 0.55 })).toBe(80);
    expect(sized({ share: 0.01 })).toBe(16);
    expect(sized({ share: 1 }, 0)).toBe(16);
  });

  test.each<[unknown, string, RegExp]>([
    [{ tokens: 0 }, "RangeError", /^cacheSize\.tokens: must be an integer from 1 to 2147483648, not 0$/],
    [{ tokens: -16 }, "RangeError", /^cacheSize\.tokens: .* not -16$/],
    [{ tokens: 1.5 }, "RangeError", /^cacheSize\.tokens: .* not 1\.5$/],
    [{ tokens: Number.NaN }, "RangeError", /^cacheSize\.tokens: .* not NaN$/],
    [{ tokens: "9" }, "TypeError", /^cacheSize\.tokens: must be a number, not "9"$/],
    [{ bytes: block - 1 }, "RangeError", /^cacheSize\.bytes: must be an integer of at least 4096, not 4095$/],
    [{ bytes: Number.NaN }, "RangeError", /^cacheSize\.bytes: .* not NaN$/],
    [{ bytes: Number.POSITIVE_INFINITY }, "RangeError", /^cacheSize\.bytes: .* not Infinity$/],
    [{ share: 0 }, "RangeError", /^cacheSize\.share: must be a number above 0 and up to 1, not 0$/],
    [{ share: -0.5 }, "RangeError", /^cacheSize\.share: .* not -0\.5$/],
    [{ share: 1.01 }, "RangeError", /^cacheSize\.share: .* not 1\.01$/],
    [{ share: Number.NaN }, "RangeError", /^cacheSize\.share: .* not NaN$/],
    [{ share: "50%" }, "TypeError", /^cacheSize\.share: must be a number, not "50%"$/],
    [{}, "RangeError", /^cacheSize: must be of one of tokens, bytes and share, not "none"$/],
    [{ tokens: 1, share: 1 }, "RangeError", /^cacheSize: .* not "tokens and share"$/],
    [{ blocks: 3 }, "RangeError", /^cacheSize: must be of tokens, bytes or share, not "blocks"$/],
    [4096, "TypeError", /^cacheSize: must be an object, not 4096$/],
    [null, "TypeError", /^cacheSize: must be an object, not null$/],
  ])("%o is refused", (size, name, message) => {
    const call = () => sized(size as CacheSize);
    expect(call).toThrow(
      expect.objectContaining({ name, code: "ERR_CRIA_ARGUMENT", message: expect.stringMatching(message) }),
    );
  });

  test("that is wrong is refused before the weights are read", async () => {
    const create = vi.spyOn(native, "matrixCreate");
    onTestFinished(() => void vi.restoreAllMocks());
    for (const call of [estimateMemory, loadModel]) {
      await expect(call(tinyModel, { cacheSize: { bytes: 1 } })).rejects.toThrow(
        /^cacheSize\.bytes: must be .* not 1$/,
      );
    }
    expect(create).not.toHaveBeenCalled();
  });

  test("is the pool's, while the context stays the most that one sequence may have", async () => {
    using model = await loadModel(tinyModel, { cacheSize: { tokens: 32 } });
    expect(model.runtime).toMatchObject({ contextLength: 192, pool: { capacity: 32 } });
    using sequence = model.sequence();
    await sequence.forward(new Int32Array(32).fill(300), "last");
    await expect(sequence.forward(Int32Array.of(300), "last")).rejects.toEqual(
      expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_CACHE_FULL" }),
    );
  });
});

/** Makes the machine's memory `bytes`, until the test is finished. */
function haveMemory(bytes: number): void {
  using device = new Device();
  const info = { ...device.info, availableBytes: bytes };
  vi.spyOn(native, "deviceInfo").mockReturnValue(info);
  onTestFinished(() => void vi.restoreAllMocks());
}

describe("the estimate", () => {
  test("has the parts that are then made", async () => {
    for (const options of [{}, { cache: "f32" }, { contextLength: 100 }, { cacheSize: { bytes: 1e6 } }] as const) {
      const estimate = await estimateMemory(tinyModel, options);
      using model = await loadModel(tinyModel, options);
      expect(estimate.weights).toBe(model.weightBytes);
      expect(estimate.cacheTokens).toBe(model.runtime.pool.capacity);
      expect(estimate.cache).toBe(native.cacheBytes(model.runtime.pool.cache));
      expect(estimate.total).toBe(estimate.weights + estimate.cache + estimate.activations + estimate.vocabulary);
      expect(estimate).toMatchObject({ mapped: 0, fits: true });
    }
  });

  test("tells what of a packed model is mapped", async () => {
    await using folder = await temporaryFolder();
    const packed = join(folder.path, "model.cria");
    await packModel(tinyModel, packed);
    const { weights, mapped, ...rest } = await estimateMemory(packed);
    const gguf = await estimateMemory(tinyModel);
    expect(weights).toBe(gguf.weights);
    expect(rest.total).toBe(gguf.total);
    const vectors = weights - mapped;
    expect(vectors).toBe(9 * 96 * 4); // two norms a layer and the last, of 96 f32
    expect(await estimateMemory(packed, { mmap: false })).toMatchObject({ weights, mapped: 0, total: gguf.total });
  });

  test("a share is of what weights and activations leave", async () => {
    haveMemory(64e6);
    const all = await estimateMemory(tinyModel, { cacheSize: { share: 1 } });
    expect(all.fits).toBe(true);
    expect(all.available - all.total).toBeLessThan(all.cache / (all.cacheTokens / 16));
    const half = await estimateMemory(tinyModel, { cacheSize: { share: 0.5 } });
    expect(half.cacheTokens / all.cacheTokens).toBeCloseTo(0.5, 2);
    using model = await loadModel(tinyModel, { cacheSize: { share: 0.5 } });
    expect(model.runtime.pool.capacity).toBe(half.cacheTokens);
  });

  test("a context that cannot fit is refused, with the one that would", async () => {
    haveMemory(10e6);
    const options = { onWarning: () => undefined };
    const refusal = async (wanted: object): Promise<string> => {
      expect((await estimateMemory(tinyModel, wanted)).fits).toBe(false);
      const error = await loadModel(tinyModel, { ...options, ...wanted }).then(
        () => undefined,
        (refused: unknown) => refused,
      );
      expect(error).toBeInstanceOf(CriaError);
      expect(error).toMatchObject({ code: "ERR_CRIA_MEMORY" });
      return (error as CriaError).message;
    };
    const message = await refusal({ contextLength: 2 ** 20 });
    const { total } = await estimateMemory(tinyModel, { contextLength: 2 ** 20 });
    expect(message).toContain(
      `must fit the 9.54 MiB of memory available, but it takes ${((total - 10e6) / 2 ** 20).toFixed(2)} MiB more: `,
    );
    const contextLength = Number(/; a contextLength of (\d+) would fit$/.exec(message)?.[1]);
    using model = await loadModel(tinyModel, { ...options, contextLength });
    expect(model.runtime.contextLength).toBe(contextLength);
    // Not at the very limit: the memory that is there changes.
    const advised = await estimateMemory(tinyModel, { contextLength });
    expect(advised.total).toBeLessThan(0.97 * 10e6);
    expect(advised.total).toBeGreaterThan(0.96 * 10e6);
    await refusal({ contextLength: Math.ceil(1.1 * contextLength) });

    expect(await refusal({ contextLength: 1024, cacheSize: { tokens: 2 ** 20 } })).toMatch(
      new RegExp(`; a cacheSize of ${contextLength} tokens would fit$`),
    );
    vi.restoreAllMocks();
    haveMemory(1e5);
    expect(await refusal({ cacheSize: { share: 1 } })).toMatch(/; not even a cache of 16 tokens would fit$/);
  });

  test("wrong arguments and files are refused", async () => {
    const refusals: [() => Promise<MemoryEstimate>, RegExp][] = [
      [() => estimateMemory(7 as never), /^path: must be a string or a file: URL, not 7$/],
      [() => estimateMemory(tinyModel, null as never), /^options: must be an object, not null$/],
      [() => estimateMemory(tinyModel, { contextLength: 0 }), /^contextLength: must be an integer from 1 to 16777216/],
      [() => estimateMemory(tinyModel, { cache: "f64" as never }), /^cache: must be .*, not "f64"$/],
      [() => estimateMemory(`${tinyModel}.absent`), /\.absent: cannot be /],
    ];
    for (const [estimate, message] of refusals) await expect(estimate()).rejects.toThrow(message);
  });
});

/** A shape whose parts are all some tens of MB, and whose vocabulary's strings are little. */
const shapes: Record<"wide" | "grouped", LlamaConfig> = {
  wide: llama({ layers: 6, dim: 2048, heads: 16, kvHeads: 16, ffn: 5504, contextLength: 1024 }),
  grouped: llama({ layers: 8, dim: 1024, heads: 16, kvHeads: 8, ffn: 3072, contextLength: 1500 }),
};

function llama({ dim, heads, ...rest }: Omit<LlamaConfig, "headDim" | "vocab" | "eps" | "rope">): LlamaConfig {
  const headDim = dim / heads;
  const rope = { theta: 1e4, scale: 1, dim: headDim, pairing: "adjacent" } as const;
  return { dim, heads, ...rest, headDim, vocab: 1024, eps: 1e-5, rope };
}

const library = packageFile("dist", "lib", "index.js");

/** In a process of its own, whose code and heap have settled: the estimate, and the growth of its resident memory. */
const measure = `
  import { estimateMemory, loadModel, tinyModel } from ${JSON.stringify(pathToFileURL(library).href)};
  const [path, options] = JSON.parse(process.argv[1]);
  const fill = async (path, options) => {
    const model = await loadModel(path, options);
    const sequence = model.sequence();
    await sequence.forward(new Int32Array(model.runtime.contextLength).fill(300), "last");
    globalThis.gc();
    const resident = process.memoryUsage.rss();
    model.dispose();
    return resident;
  };
  await fill(tinyModel, {});
  globalThis.gc();
  const before = process.memoryUsage.rss();
  const estimate = await estimateMemory(path, options);
  console.log(JSON.stringify({ estimate, growth: (await fill(path, options)) - before }));
`;

describe("what is then used", () => {
  test.for<[keyof typeof shapes, WeightType, "gguf" | "packed", object]>([
    ["wide", "q4_0", "gguf", {}],
    ["wide", "q4_0", "packed", { cache: "f32" }],
    ["grouped", "f16", "gguf", { cache: "f32", threads: 1 }],
  ])("%s, %s, %s, %o: is what was told, but for 3 in a hundred", async ([name, type, kind, options], context) => {
    needFiles(context, library);
    await using folder = await temporaryFolder();
    const gguf = join(folder.path, "model.gguf");
    {
      using device = new Device();
      const config = shapes[name];
      await writeGguf(gguf, { name, config, source: randomWeights(config, type, false) }, device);
    }
    const path = kind === "gguf" ? gguf : join(folder.path, "model.cria");
    if (kind === "packed") await packModel(gguf, path);
    const argv = ["--expose-gc", "--input-type=module", "-e", measure, JSON.stringify([path, options])];
    const { stdout } = await promisify(execFile)(process.execPath, argv);
    const { estimate, growth }: { estimate: MemoryEstimate; growth: number } = JSON.parse(stdout);
    expect(estimate.weights / (await stat(path)).size).toBeCloseTo(1, 1);
    expect(estimate.mapped > 0).toBe(kind === "packed");
    expect(Math.abs(growth / estimate.total - 1)).toBeLessThan(0.03);
  });
});
