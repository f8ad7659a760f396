import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CriaError } from "../../lib/errors.js";
import { Tokenizer } from "../../lib/text/tokenizer.js";
import { readLlamaVocabulary } from "../../lib/weights/llama-gguf.js";
import { readSentencePiece } from "../../lib/weights/sentencepiece.js";
import { dataFile, needFiles } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { mutate, mutation } from "../support/mutants.js";
import { bytesField, floatField, integerField, piece, sentencePiece, varint } from "../support/sentencepiece-writer.js";

const pieces = [
  ["▁", -1],
  ["▁a", -2],
] as const;

async function read(content: Uint8Array) {
  await using folder = await temporaryFolder();
  return await readSentencePiece(await folder.write("tokenizer.model", content));
}

describe("sound files", () => {
  test("a small model, and what it says of its tokens", async () => {
    const { pieces: all, scores, types, ...rest } = await read(sentencePiece(pieces));
    expect(all.slice(0, 4)).toEqual(["<unk>", "<s>", "</s>", "<0x00>"]);
    expect([all.slice(259), scores.slice(258), types.slice(258)]).toEqual([
      ["▁", "▁a"],
      [0, -1, -2],
      [6, 1, 1],
    ]);
    expect(rest).toEqual({ bos: 1, eos: 2, unknown: 0, addBos: true, addSpacePrefix: true });
  });

  test("no BOS, another EOS, no prefix, and fields that nobody knows", async () => {
    const trainer = bytesField(2, integerField(3, 2), integerField(41, -1n), integerField(42, 5));
    const normalizer = bytesField(3, bytesField(1, "identity"), integerField(3, 0), integerField(99, 1));
    const unknown = [integerField(77, 2n ** 64n - 1n), floatField(78, 1), bytesField(79, "?")];
    const { bos, eos, addBos, addSpacePrefix } = await read(sentencePiece(pieces, trainer, normalizer, ...unknown));
    expect({ bos, eos, addBos, addSpacePrefix }).toEqual({
      bos: undefined,
      eos: 5,
      addBos: false,
      addSpacePrefix: false,
    });
  });

  test("Llama 2's gives the ids that llama.cpp gives for its test texts", async (context) => {
    const [path, vectors] = [
      dataFile("tokenizer", "llama2-tokenizer.model"),
      dataFile("tokenizer", "ggml-vocab-llama-spm.gguf"),
    ];
    needFiles(context, path, vectors);
    const tokenizer = new Tokenizer(await readSentencePiece(path));
    const inputs = readFileSync(`${vectors}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
    const outputs = readFileSync(`${vectors}.out`, "utf8").split("\n");
    expect(inputs).toHaveLength(47);
    for (const [i, input] of inputs.entries()) {
      expect(tokenizer.encode(input).join(" "), JSON.stringify(input)).toBe(outputs[i]!.trim());
    }
  });

  test.for([
    ["tokenizer/llama2-tokenizer.model", "tokenizer/ggml-vocab-llama-spm.gguf"],
    ["stories260K/tok512.model", "stories260K/stories260Ktok512.gguf"],
    ["cria-tiny/tokenizer.model", "cria-tiny/cria-tiny-q8_0.gguf"],
  ] as const)("%s holds what %s does", async ([file, gguf], context) => {
    needFiles(context, dataFile(file), dataFile(gguf));
    expect(await readSentencePiece(dataFile(file))).toEqual(await readLlamaVocabulary(dataFile(gguf)));
  });
});

describe("damaged and unsupported files", () => {
  const unsupported = "ERR_CRIA_UNSUPPORTED";
  test.each<[what: string, content: Uint8Array, message: RegExp, code?: string]>([
    ["no pieces", bytesField(2, integerField(3, 2)), /must be a SentencePiece model, but has no pieces/],
    ["a text", Buffer.from("hello, world"), /must have/],
    ["a number that does not end", Buffer.concat([sentencePiece(pieces), Buffer.of(0xff)]), /must have a whole number/],
    ["a number of more than 64 bits", Buffer.alloc(32, 0xff), /must have a whole number before byte 10/],
    ["a field beyond the end", Buffer.concat([Buffer.of(10), varint(50)]), /must have 50 bytes from 2 on, not 0/],
    ["a length of 2^64 - 1", Buffer.concat([Buffer.of(10), varint(2n ** 64n - 1n)]), /must have 18446744073709551615/],
    ["a group", Buffer.of(11), /not one of wire type 3/],
    ["a piece that is not UTF-8", bytesField(1, bytesField(1, Uint8Array.of(0xff))), /its piece 0 must be UTF-8/],
    ["a score that is no number", piece("a", Number.NaN, 1), /the score of its piece 0 must be a number/],
    ["a type that does not exist", piece("a", 0, 7), /the type of its piece 0 must be 1 to 6, not 7/],
    ["a byte that is none", piece("a", 0, 6), /its piece 0 must be a byte as <0x0A>, not "a"/],
    ["a byte in a small letter", piece("<0x0a>", 0, 6), /its piece 0 must be a byte as <0x0A>, not "<0x0a>"/],
    ["Unigram", sentencePiece(pieces, bytesField(2, integerField(3, 1))), /be BPE, not Unigram/, unsupported],
    [
      "a type of model that does not exist",
      sentencePiece(pieces, bytesField(2, integerField(3, 9))),
      /not 9/,
      unsupported,
    ],
    ["a normaliser", sentencePiece(pieces, bytesField(3, bytesField(2, "x"))), /must be the identity/, unsupported],
    ["bare spaces", sentencePiece(pieces, bytesField(3, integerField(5, 0))), /escape_whitespaces/, unsupported],
    ["a suffix", sentencePiece(pieces, bytesField(2, integerField(24, 1))), /whitespace_as_suffix/, unsupported],
  ])("%s", async (_, content, message, code = "ERR_CRIA_FILE") => {
    const refused = read(content);
    await expect(refused).rejects.toMatchObject({ name: "CriaFileError", code });
    await expect(refused).rejects.toThrow(message);
  });

  test("cut and mutated, a file is read or refused", async () => {
    await using folder = await temporaryFolder();
    const sound = sentencePiece(pieces);
    const path = join(folder.path, "tokenizer.model");
    const outcomes = { read: 0, refused: 0 };
    const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (changes) => {
      await writeFile(
        path,
        changes.reduce((bytes, change) => (bytes.length > 8 ? mutate(bytes, sound.length, change) : bytes), sound),
      );
      try {
        const { pieces, scores, types } = await readSentencePiece(path);
        expect([scores.length, types.length]).toEqual([pieces.length, pieces.length]);
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof CriaError)) throw error;
        expect(error.message.startsWith(path)).toBe(true);
        outcomes.refused++;
      }
    });
    await fc.assert(property, { numRuns: 1000, seed: 20_230_227 });
    // Both must occur, or the mutants test nothing.
    expect(outcomes.read).toBeGreaterThan(20);
    expect(outcomes.refused).toBeGreaterThan(200);
  });
});
