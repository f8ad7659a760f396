import { readFileSync, truncateSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CriaError, CriaFileError } from "../../lib/errors.js";
import { loadModel } from "../../lib/model.js";
import { measurePerplexity } from "../../lib/perplexity.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { expectSameBits } from "../support/compare.js";
import { dataFile, needFiles } from "../support/data.js";
import { type LlamaShape, llamaFile, type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import {
  encodeLegacy,
  encodeTokenizerBin,
  encodeV1,
  encodeV2,
  type Numbers,
  tokenizerBin,
} from "../support/llama2c-writer.js";
import { logitsOf, variedWeights } from "../support/logits.js";
import { mutate, mutation } from "../support/mutants.js";

const shape = { layers: 2, dim: 64, heads: 4, kvHeads: 2, ffn: 100, vocab: 300, contextLength: 32 };
const numbers: Numbers = [64, 100, 2, 4, 2, 300, 32];
const tokens = Int32Array.of(1, 299, 260, 7, 7, 120);
const modelOf = (changes: LlamaShape = {}) => llamaFile({ ...shape, type: "f32", data: variedWeights, ...changes });

/** A model's file with a vocabulary beside it. */
async function written(folder: TemporaryFolder, bytes: Uint8Array, vocabulary = tokenizerBin(300)): Promise<string> {
  await folder.write("tokenizer.bin", vocabulary);
  return folder.write("model.bin", bytes);
}

describe("a model of llama2.c", () => {
  test.for([
    ["legacy", true],
    ["legacy", false],
    ["v1", true],
    ["v1", false],
  ] as const)("%s (tied: %s): the logits of its GGUF, bit for bit", async ([form, tied]) => {
    await using folder = await temporaryFolder();
    const file = modelOf({ tied });
    const path = await written(folder, form === "legacy" ? encodeLegacy(file, numbers) : encodeV1(file, numbers));
    const logits = await logitsOf(path, tokens);
    expectSameBits(logits, await logitsOf(await folder.write("model.gguf", file), tokens));
    expect(new Set(logits).size).toBeGreaterThan(1000);
    expect((await readModel(path)).format).toBe(`llama2.c ${form} fp32`);
  });

  test.for([
    [64, true],
    [32, false],
  ] as const)(
    "v2 in groups of %i, which span rows of 100 (tied: %s): the logits of what they stand for",
    async ([group, tied]) => {
      await using folder = await temporaryFolder();
      const { bytes, exact } = encodeV2(modelOf({ tied }), numbers, group);
      const path = await written(folder, bytes);
      const logits = await logitsOf(path, tokens);
      expectSameBits(logits, await logitsOf(await folder.write("model.gguf", exact), tokens));
      expect(new Set(logits).size).toBeGreaterThan(1000);
      expect((await readModel(path)).format).toBe(`llama2.c v2 int8 in groups of ${group}`);
    },
  );

  test("v2, of matrices that are packed in several chunks", async () => {
    await using folder = await temporaryFolder();
    const wide = { layers: 1, ffn: 16_500, vocab: 260 }; // w2's first chunk ends within a group
    const { bytes, exact } = encodeV2(modelOf(wide), [64, 16_500, 1, 4, 2, 260, 32], 64);
    const path = await written(folder, bytes, tokenizerBin(260));
    const few = tokens.map((token) => token % 260);
    expectSameBits(await logitsOf(path, few), await logitsOf(await folder.write("model.gguf", exact), few));
  });

  test("v2 becomes quantised while it is loaded: as what it stands for does", async () => {
    await using folder = await temporaryFolder();
    const { bytes, exact } = encodeV2(modelOf(), numbers, 64);
    const path = await written(folder, bytes);
    const quantize = "q8_0";
    const logits = await logitsOf(path, tokens, { quantize });
    expectSameBits(logits, await logitsOf(await folder.write("model.gguf", exact), tokens, { quantize }));
    expect(logits).not.toEqual(await logitsOf(path, tokens));
  });

  test("tells its shape, and that its pairs are adjacent", async () => {
    await using folder = await temporaryFolder();
    const { config, mappable } = await readModel(await written(folder, encodeLegacy(modelOf(), numbers)));
    expect(config).toEqual({
      layers: 2,
      dim: 64,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      ffn: 100,
      vocab: 300,
      contextLength: 32,
      eps: 1e-5,
      rope: { theta: 10_000, scale: 1, dim: 16, pairing: "adjacent" },
    });
    expect(mappable).toBe(false);
  });
});

describe("its vocabulary", () => {
  test("is that of tokenizer.bin, of the only tok*.bin, or of the file that is given", async () => {
    await using folder = await temporaryFolder();
    const path = await written(folder, encodeV1(modelOf(), numbers));
    const { pieces, types, bos, eos, unknown } = (await readModel(path)).vocabulary;
    expect(pieces.slice(0, 4)).toEqual(["<unk>", "<s>", "</s>", "<0x00>"]);
    expect([pieces[259], pieces[299]]).toEqual(["▁", "▁w39"]);
    expect([...types.slice(0, 4), types[259]]).toEqual([2, 3, 3, 6, 1]);
    expect([bos, eos, unknown]).toEqual([1, 2, 0]);

    await folder.write("tok600.bin", tokenizerBin(600)); // tokenizer.bin goes before it
    expect((await readModel(path)).vocabulary.pieces).toEqual(pieces);
    const other = await folder.write("other.gguf", llamaFile({ vocab: 300 }));
    expect((await readModel(path, { tokenizer: other })).vocabulary).toEqual(await readVocabulary(other));
    await rename(join(folder.path, "tokenizer.bin"), join(folder.path, "tok300.bin"));
    await expect(readModel(path)).rejects.toMatchObject({
      message: `${path}: tokenizer: must be given, or stand beside it as tokenizer.bin or as the only tok*.bin, but there is tok300.bin, tok600.bin`,
    });
    const tokenizer = join(folder.path, "tok300.bin");
    expect((await readModel(path, { tokenizer })).vocabulary.pieces).toEqual(pieces);
    expect((await readVocabulary(tokenizer)).pieces).toEqual(pieces);
    using model = await loadModel(path, { tokenizer });
    expect(model.tokenizer.decode(model.tokenizer.encode("w1 w2"))).toBe("w1 w2");
  });

  test("that is missing, or of another size, is named", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("tok.bin", encodeV1(modelOf(), numbers)); // which is not its own vocabulary
    await expect(readModel(path)).rejects.toThrow("but there is nothing of these names");
    const tokenizer = await folder.write("tok512.bin", tokenizerBin(512));
    await expect(readModel(path)).rejects.toMatchObject({
      message: `${tokenizer}: must have 300 tokens, as the model has, not 512`,
      code: "ERR_CRIA_FILE",
    });
    await expect(readModel(tokenizer)).rejects.toThrow(`${tokenizer}: must be a model, not a tokenizer alone`);
  });

  test.for<[string, Buffer, string]>([
    ["nothing but a length", Buffer.of(5, 0, 0, 0), "must have the pieces <unk> <s> </s> and more, not 0"],
    ["two bytes", Buffer.of(1, 0), "must begin with the length of the longest piece"],
    ["no longest piece", encodeTokenizerBin([["", 0]]), "its longest piece must be of 1 to 65536 bytes, not 0"],
    [
      "a piece longer than the longest",
      encodeTokenizerBin(
        [
          ["<unk>", 0],
          ["abcdef", 0],
        ],
        5,
      ),
      "piece 1: its length must be 0 to 5",
    ],
    ["NaN as a score", encodeTokenizerBin([["<unk>", Number.NaN]]), "piece 0: its score must be a number, not NaN"],
    ["an end within a piece", tokenizerBin(9).subarray(0, -1), "piece 8: must end within the file's"],
    [
      "an end within a score",
      Buffer.concat([tokenizerBin(9), Buffer.of(1)]),
      "piece 9: must have a score and a length",
    ],
  ])("with %s is refused", async ([, bytes, message]) => {
    await using folder = await temporaryFolder();
    const path = await written(folder, encodeV1(modelOf(), numbers), bytes);
    const refused = expect(readModel(path)).rejects;
    await refused.toThrow(message);
    await refused.toBeInstanceOf(CriaFileError);
  });

  test("of Llama 2 is that of its GGUF", async (context) => {
    const [bin, gguf] = [
      dataFile("tokenizer", "llama2c-tokenizer.bin"),
      dataFile("tokenizer", "ggml-vocab-llama-spm.gguf"),
    ];
    needFiles(context, bin, gguf);
    const { scores, ends, ...rest } = await readVocabulary(bin);
    const { scores: expected, ...same } = await readVocabulary(gguf);
    expect(rest).toEqual(same);
    expect(ends).toEqual([1, 2]);
    expect(scores).toEqual(expected);
  });
});

describe("a damaged model of llama2.c is refused:", () => {
  const legacy = encodeLegacy(modelOf(), numbers);
  const v1 = encodeV1(modelOf(), numbers);
  const v2 = encodeV2(modelOf(), numbers, 32).bytes;
  const changed = (bytes: Buffer, change: (bytes: Buffer) => unknown) => {
    const copy = Buffer.from(bytes);
    change(copy);
    return copy;
  };
  const number = (index: number, value: number) => (bytes: Buffer) => bytes.writeInt32LE(value, 8 + 4 * index);

  test.for<[string, Buffer, string, string?]>([
    [
      "a legacy file that was cut",
      legacy.subarray(0, -4),
      `must have ${legacy.length} bytes, as its header says, not ${legacy.length - 4}`,
    ],
    [
      "a longer one",
      Buffer.concat([v1, Buffer.of(0)]),
      `must have ${v1.length} bytes, as its header says, not ${v1.length + 1}`,
    ],
    ["v2 that was cut", v2.subarray(0, -4), `must have ${v2.length} bytes`],
    ["a header that was cut", v1.subarray(0, 255), "must have a header of 256 bytes, not 255"],
    [
      "version 3",
      changed(v1, (bytes) => bytes.writeInt32LE(3, 4)),
      "must be version 1 or 2 of llama2.c's format, not 3",
      "ERR_CRIA_UNSUPPORTED",
    ],
    ["no layers", changed(v1, number(2, 0)), "n_layers: must be an integer from 1 to 1024, not 0"],
    [
      "a negative vocabulary in v1",
      changed(v1, number(5, -300)),
      "vocab_size: must be an integer from 1 to 1048576, not -300",
    ],
    ["heads that do not divide", changed(v1, number(3, 5)), "n_heads: must divide dim, 64, not be 5"],
    ["KV heads that do not divide", changed(v1, number(4, 3)), "n_kv_heads: must divide the 4 heads, not be 3"],
    [
      "heads of 4 dimensions",
      changed(v1, number(3, 16)),
      "n_heads: must give heads of a multiple of 8 dimensions up to 256, not of 4",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "a legacy file of such heads",
      changed(legacy, (bytes) => bytes.writeInt32LE(16, 12)),
      "n_heads: must give heads of a multiple of 8 dimensions up to 256, not of 4",
      "ERR_CRIA_UNSUPPORTED",
    ],
    ["a flag of 2", changed(v1, (bytes) => bytes.writeUInt8(2, 36)), "shared_classifier: must be 0 or 1, not 2"],
    [
      "groups of 0",
      changed(v2, (bytes) => bytes.writeInt32LE(0, 37)),
      "group_size: must divide the dimension, 64, not be 0",
    ],
    [
      "huge numbers",
      changed(v1, (bytes) => [number(2, 1024), number(1, 65536), number(5, 1048576)].map((set) => set(bytes))),
      "as its header says",
    ],
  ])("%s", async ([, bytes, message, code = "ERR_CRIA_FILE"]) => {
    await using folder = await temporaryFolder();
    const path = await written(folder, bytes);
    const refused = expect(readModel(path)).rejects;
    await refused.toThrow(message);
    await refused.toMatchObject({ name: "CriaFileError", code });
  });

  test("weights that the file ends in while they are loaded", async () => {
    await using folder = await temporaryFolder();
    const path = await written(folder, v2);
    const onProgress = (loaded: number) => {
      if (loaded > 0) truncateSync(path, 300);
    };
    await expect(loadModel(path, { onProgress })).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/model\.bin: blk\.0\.\w+\.weight: ends at byte 300, inside a tensor$/),
    });
  });
});

const small = modelOf({ layers: 1, dim: 8, heads: 1, kvHeads: 1, ffn: 8, vocab: 24 });
const smallNumbers: Numbers = [8, 8, 1, 1, 1, 24, 32];

test.for([
  ["legacy", 200, encodeLegacy(small, smallNumbers), 28],
  ["v2", 200, encodeV2(small, smallNumbers, 8).bytes, 41],
] as const)(
  "%s with its header and its vocabulary mutated, %i times, is read or refused",
  async ([, runs, model, header]) => {
    await using folder = await temporaryFolder();
    const vocabulary = tokenizerBin(24);
    const outcomes = { read: 0, refused: 0 };
    const mutations = fc.array(mutation, { maxLength: 2 });
    const property = fc.asyncProperty(mutations, mutations, async (ofModel, ofVocabulary) => {
      const mutant = ofModel.reduce((bytes, change) => mutate(bytes, header, change), model);
      const pieces = ofVocabulary.reduce(
        (bytes, change) => (bytes.length > 8 ? mutate(bytes, 200, change) : bytes),
        vocabulary,
      );
      const path = await written(folder, mutant, pieces);
      try {
        const { tensors, config, vocabulary } = await readModel(path, {
          tokenizer: join(folder.path, "tokenizer.bin"),
        });
        expect(vocabulary.pieces).toHaveLength(config.vocab);
        expect(tensors.size).toBe(config.layers * 9 + (tensors.has("output.weight") ? 3 : 2));
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof CriaError)) throw error;
        expect(error.message.startsWith(folder.path)).toBe(true);
        outcomes.refused++;
      }
    });
    await fc.assert(property, { numRuns: runs, seed: 20_230_227 });
    expect(outcomes.read).toBeGreaterThan(runs / 100);
    expect(outcomes.refused).toBeGreaterThan(runs / 2);
  },
);

describe("stories260K", () => {
  const story = (name: string) => dataFile("stories260K", name);

  test.for(["stories260K.bin", "stories260K_v1.bin"])("as %s says llama2.c's expected text", async (name, context) => {
    needFiles(context, story(name), story("tok512.bin"), story("greedy.txt"));
    using model = await loadModel(story(name));
    let text = "";
    for await (const piece of model.generate("", { temperature: 0, maxTokens: 200, ignoreEos: true })) text += piece;
    expect(text.trimStart()).toBe(readFileSync(story("greedy.txt"), "utf8").trimStart());
  });

  test("in int8 scores what it should", async (context) => {
    const validation = dataFile("tinystories", "validation_100.txt");
    needFiles(context, story("stories260K_q80.bin"), story("tok512.bin"), validation);
    using model = await loadModel(story("stories260K_q80.bin"), { contextLength: 128 });
    const { tokens, bytes, bitsPerByte } = await measurePerplexity(model, readFileSync(validation, "utf8"), {
      context: 128,
    });
    expect([tokens, bytes]).toEqual([12_685, 27_821]);
    expect(Math.abs(bitsPerByte - 0.8135)).toBeLessThanOrEqual(0.002);
  });
});
