import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { convertModel, quantizeModel } from "../../lib/convert.js";
import { Tokenizer } from "../../lib/index.js";
import { packModel } from "../../lib/pack.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { rankedMerges } from "../../lib/weights/ranked-merges.js";
import { byteCharacters, byteLevelVocabulary, learnMerges } from "../support/byte-level.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { variedWeights } from "../support/logits.js";
import { partsOf, writeMeta } from "../support/meta-writer.js";

const texts = ["The cat sat on the mat.", " it's 12345 tables\n\n\tüber  alles 🐈", "a", ""];
const merges = learnMerges(["the", " the", " table", "123", " mat", "cat", " sat", "über"], 40);
const model = byteLevelVocabulary(merges, "llama-bpe");
const ranked = model.pieces.slice(0, -3);

/** The bytes of a piece in GPT-2's alphabet, by that of the single bytes, which the vocabulary begins with. */
const bytesOf = (piece: string) => Buffer.from(Array.from(piece, (character) => ranked.indexOf(character)));
const lines = ranked.map((piece, rank) => `${bytesOf(piece).toString("base64")} ${rank}\n`);

async function read(content: string) {
  await using folder = await temporaryFolder();
  return await readVocabulary(await folder.write("tokenizer.model", Buffer.from(content)));
}

test("Llama 3's tokenizer.model merges as the same pieces with their merges listed", async () => {
  const vocabulary = await read(lines.join(""));
  expect(vocabulary.pieces.slice(0, ranked.length)).toEqual(ranked);
  const [one, other] = [new Tokenizer(vocabulary), new Tokenizer(model)];
  for (const text of texts) {
    expect([...one.encode(text)]).toEqual([...other.encode(text)]);
    expect(one.decode(one.encode(text))).toBe(text);
  }
  expect(one.encode(" table")).toHaveLength(1);
});

test("behind its pieces stand the 256 tokens that the file leaves out", async () => {
  const { pieces, types, bos, eos, ends, addBos } = await read(lines.join(""));
  const at = (offset: number) => pieces[ranked.length + offset];
  expect(pieces).toHaveLength(ranked.length + 256);
  expect([0, 1, 6, 7, 8, 9, 10, 11, 255].map(at)).toEqual([
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|reserved_special_token_2|>",
    "<|reserved_special_token_246|>",
  ]);
  expect(types.slice(-256).every((type) => type === 3)).toBe(true);
  expect([bos, eos, ...ends!].map((id) => id! - ranked.length)).toEqual([0, 1, 1, 9, 8]);
  expect(addBos).toBe(true);
});

test.for([
  ["a rank that is skipped", "IQ== 0\nIg== 2\n", "line 2: its rank must be 1, not 2"],
  ["a line of one word", "IQ== 0\nIg==\n", "line 2: must be a piece in base64 and its rank"],
  ["base64 that is cut", "IQ== 0\nIgA 1\n", "line 2: its piece must be whole bytes in base64"],
  ["a long piece", `IQ== 0\n${Buffer.alloc(1025).toString("base64")} 1\n`, "line 2: its piece must be of at most 1024"],
  ["a piece twice", "IQ== 0\nIQ== 1\n", "line 2: must have a piece that is new"],
] as const)("%s is refused", async ([, content, message]) => {
  const refused = expect(read(content)).rejects;
  await refused.toThrow(message);
  await refused.toMatchObject({ name: "CriaFileError", code: "ERR_CRIA_FILE" });
});

describe("a model of Meta's with it, whose merges no file lists", () => {
  const shape = { layers: 1, dim: 64, heads: 4, kvHeads: 2, ffn: 192, vocab: ranked.length + 256 } as const;
  const params = { dim: 64, n_layers: 1, n_heads: 4, n_kv_heads: 2, multiple_of: 64, norm_eps: 1e-5 };

  test.for([
    ["converted", (model: string, out: string) => convertModel(model, out)],
    ["quantised", (model: string, out: string) => quantizeModel(model, out, { type: "q8_0" })],
    ["packed", (model: string, out: string) => packModel(model, out)],
  ] as const)("is, %s, of the same tokens", async ([, write]) => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "meta");
    await writeMeta(
      path,
      { ...params, vocab_size: -1 },
      partsOf(llamaFile({ ...shape, type: "f32", data: variedWeights }), 1),
      shape.vocab,
    );
    await writeFile(join(path, "tokenizer.model"), lines.join(""));
    const out = join(folder.path, "out");
    await write(path, out);
    const [before, after] = [await readVocabulary(path), await readVocabulary(out)];
    expect(after).toMatchObject({ bos: before.bos, eos: before.eos, ends: before.ends, wholeWords: true });
    const { keys } = await readModel(out);
    expect(keys!.get("tokenizer.ggml.eot_token_id")).toMatchObject({ value: before.pieces.indexOf("<|eot_id|>") });
    for (const text of texts) {
      expect(new Tokenizer(after).encode(text)).toEqual(new Tokenizer(before).encode(text));
    }
    expect(new Tokenizer(after).encode("the tables")).toHaveLength(3);
  });
});

test("the merges of the longest pieces", () => {
  const pieces = Array.from({ length: 11 }, (_, i) => "a".repeat(2 ** i));
  const merges = rankedMerges({ pieces, scores: pieces.map((_, rank) => -rank), types: pieces.map(() => 1) });
  expect(merges).toEqual(pieces.slice(0, -1).map((half) => `${half} ${half}`));
});

test("merges of ranks are those of any text, also where a piece is made by way of a later one, or never", async () => {
  // "abc" by "ab", which has a higher rank; "xyz" of no two pieces.
  const pieces = [...byteCharacters, "abc", "bd", "ab", "abcbd", "xyz"];
  const vocabulary = {
    ...byteLevelVocabulary([], "llama-bpe"),
    pieces,
    scores: pieces.map((_, rank) => -rank),
    types: pieces.map(() => 1),
    merges: undefined,
  };
  const merges = rankedMerges(vocabulary);
  expect(merges).toEqual(["ab c", "b d", "a b", "abc bd"]);
  const [one, other] = [new Tokenizer(vocabulary), new Tokenizer({ ...vocabulary, merges })];
  const letters = fc.array(fc.constantFrom("a", "b", "c", "d", "x", "y", "z"), { maxLength: 12 });
  fc.assert(
    fc.property(letters, (text) => {
      expect(other.encode(text.join(""))).toEqual(one.encode(text.join("")));
    }),
    { numRuns: 300 },
  );
});
