import { readFileSync } from "node:fs";
import { readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gguf as readWithHub } from "@huggingface/gguf";
import { describe, expect, test } from "vitest";

import { convertModel, quantizeModel, type TargetType } from "../lib/convert.js";
import { loadModel } from "../lib/model.js";
import { packModel } from "../lib/pack.js";
import { Tokenizer } from "../lib/text/tokenizer.js";
import { tinyModel } from "../lib/tiny.js";
import { readGguf } from "../lib/weights/gguf.js";
import { plannedTypes } from "../lib/weights/mixtures.js";
import { readModel } from "../lib/weights/model-file.js";
import { type WeightType, weightFormats } from "../lib/weights/source.js";
import { expectSameBits } from "./support/compare.js";
import { dataFile, needFiles } from "./support/data.js";
import { nmse } from "./support/float64.js";
import {
  array,
  encodeGguf,
  type LlamaShape,
  llamaFile,
  string,
  type TemporaryFolder,
  temporaryFolder,
} from "./support/gguf-writer.js";
import { writeModel } from "./support/hugging-face.js";
import { scalar } from "./support/isas.js";
import { encodeV1, type Numbers, tokenizerBin } from "./support/llama2c-writer.js";
import { variedWeights } from "./support/logits.js";
import { partsOf, writeMeta } from "./support/meta-writer.js";

/** A shape whose rows are whole blocks of any type. */
const wide = { dim: 256, ffn: 512, heads: 4, kvHeads: 2, layers: 2, vocab: 300 } as const;

/** Weights of a wave, so that every row and every column differs. */
function floatData(_: string, type: WeightType, rows: number, cols: number): Uint8Array {
  if (type !== "f32") throw new Error(`${type}: the wave is of f32`);
  return new Uint8Array(Float32Array.from({ length: rows * cols }, (_, i) => 0.1 * Math.sin(i * 1.7 + rows)).buffer);
}

async function writeLlama(folder: { path: string }, shape: LlamaShape = {}, name = "model.gguf"): Promise<string> {
  const path = join(folder.path, name);
  await writeFile(path, encodeGguf(llamaFile({ ...wide, type: "f32", data: floatData, ...shape })));
  return path;
}

/** The logits after each token, with an f32 cache. */
async function logitsOf(path: string, tokens: readonly number[]): Promise<Float32Array> {
  using model = await loadModel(path, { cache: "f32", ...scalar });
  using sequence = model.sequence();
  return await sequence.forward(Int32Array.from(tokens), "all");
}

async function tellStory(path: string): Promise<string> {
  using model = await loadModel(path);
  let text = "";
  for await (const piece of model.generate("", { temperature: 0, maxTokens: 60 })) text += piece;
  return text;
}

/** What tensors became, by name. */
async function typesOf(path: string): Promise<Record<string, WeightType>> {
  return Object.fromEntries([...(await readGguf(path)).tensors.values()].map(({ name, type }) => [name, type]));
}

/** A tensor's bytes in a GGUF file. */
async function bytesOf(path: string, name: string): Promise<Buffer> {
  const { file, offset, bytes } = (await readGguf(path)).tensors.get(name)!;
  return (await readFile(file)).subarray(offset, offset + bytes);
}

const story = dataFile("tinystories-656k-hf");
const fixture = dataFile("fixtures", "tiny-f32.gguf");

describe("a GGUF file", () => {
  test("as it is keeps its keys and every weight's bits", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out.gguf");
    const { bytes, tensors } = await convertModel(tinyModel, out);
    expect(bytes).toBe((await stat(out)).size);
    expect(tensors).toEqual({ q8_0: 29, f32: 9 });
    const [before, after] = [await readGguf(tinyModel), await readGguf(out)];
    expect([...after.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    for (const name of before.tensors.keys()) {
      expect(Buffer.compare(await bytesOf(out, name), await bytesOf(tinyModel, name))).toBe(0);
    }
    const kept = Object.fromEntries(before.metadata.entries);
    expect(Object.fromEntries(after.metadata.entries)).toMatchObject({
      ...kept,
      "general.file_type": { type: "u32", value: 7 },
      "general.quantization_version": { type: "u32", value: 2 },
    });
  });

  test.for<[what: string, before: string]>([
    ["of merges", '{"merges":true}'],
    ["of ends", '{"ends":[7]}'],
  ])("given another tokenizer, keeps nothing %s of its own", async ([, before]) => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    const path = await folder.write(
      "model.gguf",
      encodeGguf({
        ...file,
        metadata: {
          ...file.metadata,
          "cria.vocabulary": string(before),
          "tokenizer.ggml.merges": array("string", []),
        },
      }),
    );
    const tokenizer = await folder.write("other.gguf", encodeGguf(llamaFile()));
    const out = join(folder.path, "out.gguf");
    await convertModel(path, out, { tokenizer });
    expect((await readModel(out)).vocabulary).toEqual((await readModel(tokenizer)).vocabulary);
  });

  test("is read by @huggingface/gguf with every field right", async () => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder);
    const out = join(folder.path, "out.gguf");
    await quantizeModel(path, out, { type: "q4_K" });
    const { metadata, tensorInfos, tensorDataOffset } = await readWithHub(out, { allowLocalFile: true });
    expect(metadata).toMatchObject({
      version: 3,
      tensor_count: 21n,
      "general.architecture": "llama",
      "general.name": "a test",
      "general.file_type": 14,
      "general.quantization_version": 2,
      "llama.block_count": 2,
      "llama.context_length": 128,
      "llama.embedding_length": 256,
      "llama.feed_forward_length": 512,
      "llama.attention.head_count": 4,
      "llama.attention.head_count_kv": 2,
      "llama.rope.dimension_count": 64,
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.bos_token_id": 1,
    });
    const model = await readGguf(out);
    expect(tensorInfos).toHaveLength(21);
    for (const { name, shape, dtype, offset } of tensorInfos) {
      const { type, shape: expected, offset: place } = model.tensors.get(name)!;
      expect(shape.map(Number)).toEqual(expected);
      expect(dtype).toBe(weightFormats[name.includes("norm") ? "f32" : "q4_K"].id);
      expect(type).toBe(name.includes("norm") ? "f32" : "q4_K");
      expect(Number(tensorDataOffset + offset)).toBe(place);
      expect(place % 32).toBe(0);
    }
  });

  /**
   * The relative error of normally distributed weights of each type. Through the layers of this random model, whose sums
   * cancel more than a trained one's, its square becomes 30 times as large in the logits, and int8 activations add 8e-4.
   */
  const errors: [TargetType, number][] = [
    ["f16", 2.1e-4],
    ["bf16", 1.7e-3],
    ["q8_0", 5.3e-3],
    ["q6_K", 0.017],
    ["q5_K_M", 0.035],
    ["q5_1", 0.034],
    ["q4_K_M", 0.07],
    ["iq4_nl", 0.075],
    ["q4_0", 0.08],
    ["q3_K", 0.145],
  ];
  test.for(errors)(
    "as %s has the logits of the source, but for the type's error of %f",
    async ([type, error], context) => {
      needFiles(context, fixture);
      await using folder = await temporaryFolder();
      const out = join(folder.path, "out.gguf");
      await quantizeModel(fixture, out, { type });
      const tokens = Array.from({ length: 16 }, (_, i) => (37 * i + 1) % 512);
      const difference = nmse(await logitsOf(out, tokens), await logitsOf(fixture, tokens));
      expect(difference).toBeGreaterThan(0);
      expect(difference).toBeLessThan(40 * error ** 2 + (["f16", "bf16"].includes(type) ? 0 : 1e-3));
    },
  );
});

describe("a Hugging Face folder", () => {
  test("as it is, its queries and keys in GGUF's order, has the same logits and says the same", async (context) => {
    needFiles(context, story);
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out.gguf");
    await convertModel(story, out);
    const { tokens } = JSON.parse(readFileSync(join(story, "exact.json"), "utf8"));
    const exact = new Float32Array(readFileSync(join(story, "exact.logits.f32")).buffer.slice(0));
    expect(nmse(await logitsOf(out, tokens), exact)).toBeLessThan(1e-9);
    expect(await tellStory(out)).toBe(await tellStory(story));
  });

  test("quantised to 8 bits tells the story, to 4 bits one much like it", async (context) => {
    needFiles(context, story);
    await using folder = await temporaryFolder();
    const [eight, four] = [join(folder.path, "8.gguf"), join(folder.path, "4.gguf")];
    await quantizeModel(story, eight, { type: "q8_0" });
    await quantizeModel(story, four, { type: "q4_K_M" });
    expect((await tellStory(eight)).slice(0, 60)).toBe((await tellStory(story)).slice(0, 60));
    expect(await tellStory(four)).toMatch(/^Once upon a time, there was a little (girl|boy) named \w+\./);
  });

  test("its texts are the same tokens", async (context) => {
    const texts = dataFile("tinystories", "validation_100.txt");
    needFiles(context, story, texts);
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out.gguf");
    await convertModel(story, out);
    const [before, after] = [(await readModel(story)).vocabulary, (await readModel(out)).vocabulary];
    const text = `${readFileSync(texts, "utf8").slice(0, 20_000)} naïve 漢字 🙂\n\t  <s> x`;
    expect(new Tokenizer(after).encode(text)).toEqual(new Tokenizer(before).encode(text));
    // By the scores alone, as readers without cria's own key have it.
    const { merges: _, ...scored } = after;
    const plain = "Once upon a time, there was a little girl named Lily. She had a toy car.";
    expect(new Tokenizer(scored).encode(plain)).toEqual(new Tokenizer(before).encode(plain));
  });

  test("packed, has the same logits, bit for bit", async () => {
    await using folder = await temporaryFolder();
    const model = await writeModel(folder);
    const out = join(folder.path, "packed");
    await packModel(model, out);
    const [before, after] = [await readModel(model), await readModel(out)];
    expect(after.config).toEqual({ ...before.config, eps: Math.fround(before.config.eps) }); // an f32 in both kernels
    // Of scores there are some now, which the merges go before.
    const { scores: _, ...kept } = after.vocabulary;
    expect(before.vocabulary).toMatchObject(kept);
    expectSameBits(await logitsOf(out, [1, 2, 3, 4]), await logitsOf(model, [1, 2, 3, 4]));
    // And out of the packed file the same GGUF file is made.
    const [direct, through] = [join(folder.path, "direct.gguf"), join(folder.path, "through.gguf")];
    await convertModel(model, direct);
    await convertModel(out, through);
    expect(nmse(await logitsOf(direct, [1, 2, 3]), await logitsOf(model, [1, 2, 3]))).toBeLessThan(1e-9);
    for (const name of ["blk.0.attn_q.weight", "blk.0.attn_k.weight", "output_norm.weight"]) {
      expect(Buffer.compare(await bytesOf(direct, name), await bytesOf(through, name))).toBe(0);
    }
  });
});

describe("types", () => {
  const tensors = (layers: number, tied = false) => {
    const names = Array.from({ length: layers }, (_, n) =>
      ["attn_q", "attn_v", "attn_output", "ffn_down", "ffn_up"].map((part) => `blk.${n}.${part}.weight`),
    ).flat();
    const all = ["token_embd.weight", ...names, ...(tied ? [] : ["output.weight"])];
    return new Map(all.map((name) => [name, { name, type: "f16" as const, rows: 512, cols: 512 }]));
  };
  const planned = (type: TargetType, layers: number, tied = false) =>
    plannedTypes(type, { layers }, tensors(layers, tied)).types;
  const layersOf = (types: ReadonlyMap<string, WeightType>, part: string, type: WeightType) =>
    [...types].flatMap(([name, its]) =>
      name.endsWith(`.${part}.weight`) && its === type ? [Number(name.split(".")[1])] : [],
    );

  test("of q4_K_M are llama.cpp's: half of the value and down matrices, and the output, in q6_K", () => {
    const types = planned("q4_K_M", 32);
    const more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
    expect(layersOf(types, "attn_v", "q6_K")).toEqual(more);
    expect(layersOf(types, "ffn_down", "q6_K")).toEqual(more);
    expect([...types.values()].filter((type) => type === "q6_K")).toHaveLength(33);
    expect(types.get("output.weight")).toBe("q6_K");
    expect(types.get("token_embd.weight")).toBe("q4_K");
  });

  test("of other mixtures are llama.cpp's too", () => {
    expect(layersOf(planned("q4_K_S", 32), "attn_v", "q5_K")).toEqual([0, 1, 2, 3]);
    expect(layersOf(planned("q4_K_S", 32), "ffn_down", "q5_K")).toEqual([0, 1, 2, 3]);
    expect(layersOf(planned("q3_K_M", 32), "attn_v", "q5_K")).toEqual([0, 1]);
    expect(layersOf(planned("q3_K_M", 32), "ffn_down", "q5_K")).toEqual([0, 1]);
    expect(layersOf(planned("q3_K_M", 32), "attn_output", "q4_K")).toHaveLength(32);
    expect(layersOf(planned("q3_K_M", 32), "attn_q", "q3_K")).toHaveLength(32);
    // The 70B, whose value matrices are small.
    expect(layersOf(planned("q4_K_M", 80), "attn_v", "q5_K")).toHaveLength(40);
    expect(planned("q5_K_S", 32, true).get("token_embd.weight")).toBe("q6_K");
  });

  test("of one name are of all matrices", () => {
    expect(new Set(planned("q4_K", 4).values())).toEqual(new Set(["q4_K"]));
  });

  test("give way where rows are no whole number of blocks, which is told", async () => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder, { dim: 96, ffn: 100, heads: 4, kvHeads: 2 });
    const out = join(folder.path, "out.gguf");
    const warnings: string[] = [];
    await quantizeModel(path, out, { type: "q4_K", onWarning: (message) => warnings.push(message) });
    expect(await typesOf(out)).toMatchObject({
      "token_embd.weight": "q5_0",
      "blk.0.attn_q.weight": "q5_0",
      "blk.0.ffn_down.weight": "f16",
      "blk.0.attn_norm.weight": "f32",
    });
    expect(warnings).toEqual([
      "14 matrices, the first token_embd.weight, are q5_0, not q4_K: rows of 96 weights are no whole number of blocks of 256",
      "2 matrices, the first blk.0.ffn_down.weight, are f16, not q4_K: rows of 100 weights are no whole number of blocks of 256",
    ]);
    expect((await logitsOf(out, [1, 2])).every(Number.isFinite)).toBe(true);
  });

  test("of weights that are quantised already change with a warning", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out.gguf");
    const warnings: string[] = [];
    const { tensors } = await quantizeModel(tinyModel, out, { type: "q4_0", onWarning: (told) => warnings.push(told) });
    expect(tensors).toEqual({ f32: 9, q4_0: 29 });
    expect(warnings).toEqual([
      "the weights are quantised already (q8_0): quantised again they lose more than the model's float weights would",
    ]);
    expect(await tellStory(out)).toMatch(/^Once upon a time/);
  });
});

describe("writing", () => {
  test.for<[options: object, message: string]>([
    [{ tokeniser: "x" }, "options.tokeniser: is not an option of convertModel"],
    [{ onWarning: 1 }, "onWarning: must be a function, not 1"],
    [{ signal: {} }, "signal: must be an AbortSignal, not Object"],
  ])("%j is refused before anything is written", async ([options, message]) => {
    await using folder = await temporaryFolder();
    await expect(convertModel(tinyModel, join(folder.path, "out"), options)).rejects.toMatchObject({
      name: "TypeError",
      message,
    });
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("tells how far it is, and stops between slices, leaving what was there", async () => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder);
    const out = join(folder.path, "out.gguf");
    await writeFile(out, "before");
    const stop = new AbortController();
    const seen: number[] = [];
    const onProgress = (done: number, total: number) => {
      seen.push(done / total);
      if (done > total / 2) stop.abort();
    };
    const stopped = quantizeModel(path, out, { type: "q8_0", signal: stop.signal, onProgress });
    await expect(stopped).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED", message: "the writing was cancelled" });
    expect(seen.at(-1)).toBeGreaterThan(0.5);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(await readFile(out, "utf8")).toBe("before");
    expect((await readdir(folder.path)).sort()).toEqual(["model.gguf", "out.gguf"]);
  });

  test("an error that onProgress throws comes through as it is, and leaves what was there", async () => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder);
    const out = join(folder.path, "out.gguf");
    // As of a log of the caller's on a disk that is full.
    const own = Object.assign(new Error("the caller's own"), { code: "ENOSPC", syscall: "write" });
    const onProgress = () => {
      throw own;
    };
    await expect(convertModel(path, out, { onProgress })).rejects.toBe(own);
    expect(await readdir(folder.path)).toEqual(["model.gguf"]);
  });

  test.each([
    [undefined, "options: must be an object, not undefined"],
    [{}, "type: must be a string, not undefined"],
    [{ type: undefined }, "type: must be a string, not undefined"],
  ])("quantizeModel wants a type: %j", async (options, message) => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "out.gguf");
    await expect(quantizeModel(tinyModel, out, options as never)).rejects.toMatchObject({
      name: "TypeError",
      code: "ERR_CRIA_ARGUMENT",
      message,
    });
    expect(await readdir(folder.path)).toEqual([]);
  });

  test.each([
    ["the model itself", (path: string) => path],
    ["a folder", (path: string) => join(path, "..")],
  ])("over %s is refused", async (_, outOf) => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder);
    await expect(convertModel(path, outOf(path))).rejects.toMatchObject({ code: "ERR_CRIA_FILE" });
    expect((await stat(path)).size).toBeGreaterThan(1000);
  });

  test("over a file of the model's folder is refused", async () => {
    await using folder = await temporaryFolder();
    const model = await writeModel(folder);
    await expect(convertModel(model, join(model, "model.safetensors"))).rejects.toThrow(
      "must not be a file of the model itself",
    );
  });

  test.for<
    [what: string, write: (folder: TemporaryFolder) => Promise<[model: string, own: string, tokenizer?: string]>]
  >([
    [
      "the tokenizer beside the file of weights that was named",
      async (folder) => {
        const model = await writeModel(folder);
        return [join(model, "model.safetensors"), join(model, "tokenizer.json")];
      },
    ],
    [
      "llama2.c's tokenizer.bin",
      async (folder) => {
        const numbers: Numbers = [64, 96, 2, 4, 4, 300, 128];
        const file = llamaFile({ kvHeads: 4, type: "f32", data: variedWeights });
        const own = await folder.write("tokenizer.bin", tokenizerBin(300));
        return [await folder.write("model.bin", encodeV1(file, numbers)), own];
      },
    ],
    [
      "the tokenizer in the folder around Meta's",
      async (folder) => {
        const model = join(folder.path, "7B");
        const shape = { layers: 1, dim: 64, heads: 4, kvHeads: 4, ffn: 192, vocab: 300 };
        const params = { dim: 64, n_layers: 1, n_heads: 4, multiple_of: 64, norm_eps: 1e-5, vocab_size: -1 };
        await writeMeta(model, params, partsOf(llamaFile({ ...shape, type: "f32", data: variedWeights }), 1), 300);
        const own = join(folder.path, "tokenizer.model");
        await rename(join(model, "tokenizer.model"), own);
        return [model, own];
      },
    ],
    [
      "the tokenizer that is given",
      async (folder) => {
        const own = await folder.write("tok.bin", tokenizerBin(300));
        return [await writeLlama(folder), own, own];
      },
    ],
  ])("over %s is refused", async ([, write]) => {
    await using folder = await temporaryFolder();
    const [model, own, tokenizer] = await write(folder);
    const before = await readFile(own);
    const options = tokenizer === undefined ? {} : { tokenizer };
    const refused = { code: "ERR_CRIA_FILE", message: `${own}: must not be a file of the model itself, ${own}` };
    await expect(convertModel(model, own, options)).rejects.toMatchObject(refused);
    await expect(packModel(model, own, options)).rejects.toMatchObject(refused);
    expect(Buffer.compare(await readFile(own), before)).toBe(0);
  });

  test("what GGUF has no keys for is refused with the model's name", async () => {
    await using folder = await temporaryFolder();
    const model = await writeModel(folder, { config: { rope_scaling: { type: "dynamic", factor: 2 } } });
    const out = join(folder.path, "out");
    const message = `${model}: rope scaling: must be one that GGUF has keys for, not dynamic NTK`;
    const refused = { name: "CriaFileError", code: "ERR_CRIA_UNSUPPORTED", file: model, message };
    await expect(convertModel(model, out)).rejects.toMatchObject(refused);
    await expect(packModel(model, out)).rejects.toMatchObject(refused);
  });

  test("names the tensor, the row and the column of what is no number", async () => {
    await using folder = await temporaryFolder();
    const data: NonNullable<LlamaShape["data"]> = (name, type, rows, cols) => {
      const bytes = floatData(name, type, rows, cols);
      if (name === "blk.1.ffn_up.weight") new Float32Array(bytes.buffer)[7 * cols + 3] = Number.NaN;
      return bytes;
    };
    const path = await writeLlama(folder, { data });
    const out = join(folder.path, "out.gguf");
    const writing = quantizeModel(path, out, { type: "q4_K" });
    await expect(writing).rejects.toMatchObject({
      code: "ERR_CRIA_NUMBERS",
      message: `${path}: blk.1.ffn_up.weight: row 7, column 3: must be a number of at most 65504 in q4_K, not nan`,
    });
    expect(await readdir(folder.path)).toEqual(["model.gguf"]);
  });

  const wrong: [Record<string, unknown>, string][] = [
    [{}, "type: must be a string, not undefined"],
    [{ type: 4 }, "type: must be a string, not 4"],
    [{ type: "q4" }, "type: must be one of f32, f16, bf16, q8_0"],
    [{ type: "q8_0", threads: 0 }, "threads: must be an integer from 1 to 256, not 0"],
  ];
  test.each(wrong)("with %o is refused", async (options, message) => {
    await using folder = await temporaryFolder();
    const path = await writeLlama(folder);
    const refused = quantizeModel(path, join(folder.path, "out"), options as never);
    await expect(refused).rejects.toThrow(message);
    expect(await readdir(folder.path)).toEqual(["model.gguf"]);
  });
});
