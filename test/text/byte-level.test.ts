import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { wellFormed } from "../../lib/text/decoder.js";
import { wordSplitters } from "../../lib/text/pipeline.js";
import { Tokenizer } from "../../lib/text/tokenizer.js";
import { readLlamaVocabulary } from "../../lib/weights/llama-gguf.js";
import type { WordPattern } from "../../lib/weights/source.js";
import { byteCharacters, byteLevelVocabulary, inByteAlphabet, learnMerges } from "../support/byte-level.js";
import { array, bool, llamaFile, string, temporaryFolder, u32, type Value } from "../support/gguf-writer.js";

const words = " the cat's hat, the cat's mat; they'll they've then 1234 12 ünder über 🦙🦙\n\n  \n the end".split(
  /(?= )/,
);
const merges = learnMerges(words, 60);
const patterns = Object.keys(wordSplitters) as WordPattern[];

const texts = fc
  .array(
    fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constantFrom(...words, "\n\n", "  ", "<|eot_id|>", "▁")),
  )
  .map((parts) => parts.join(""));

/** A byte-level vocabulary as GGUF has it, within the keys of a small model. */
function keysOf(wordPattern: string, changes: Record<string, Value | undefined> = {}) {
  const { pieces, types, bos, eos } = byteLevelVocabulary(merges, "llama-bpe");
  const keys = Object.entries({
    ...llamaFile().metadata,
    "tokenizer.ggml.model": string("gpt2"),
    "tokenizer.ggml.pre": string(wordPattern),
    "tokenizer.ggml.tokens": array("string", pieces),
    "tokenizer.ggml.token_type": array("i32", types),
    "tokenizer.ggml.merges": array("string", merges),
    "tokenizer.ggml.bos_token_id": u32(bos!),
    "tokenizer.ggml.eos_token_id": u32(eos!),
    "tokenizer.ggml.unknown_token_id": undefined,
    "tokenizer.ggml.scores": undefined,
    ...changes,
  });
  return Object.fromEntries(keys.filter((entry): entry is [string, Value] => entry[1] !== undefined));
}

async function read(...args: Parameters<typeof keysOf>) {
  await using folder = await temporaryFolder();
  return await readLlamaVocabulary(await folder.write("vocabulary.gguf", { metadata: keysOf(...args), tensors: [] }));
}

describe("texts", () => {
  test.each(patterns)("any text is given back, %s", (pattern) => {
    const tokenizer = new Tokenizer(byteLevelVocabulary(merges, pattern));
    fc.assert(fc.property(texts, (text) => tokenizer.decode(tokenizer.encode(text)) === wellFormed(text)));
  });

  test.each(patterns)("its pieces are found as the tokens come, %s", (pattern) => {
    const tokenizer = new Tokenizer(byteLevelVocabulary(merges, pattern));
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.size - 1)), (tokens) => {
        const decoder = tokenizer.decoder({ continuation: true });
        const pushed = tokens.map((token) => decoder.push(token)).join("") + decoder.end();
        return pushed === tokenizer.decode(tokens) && !pushed.includes("<|");
      }),
    );
  });

  test.each(patterns)("the ids are those of @huggingface/tokenizers, %s", (pattern) => {
    const { pieces, types, wholeWords } = byteLevelVocabulary(merges, pattern);
    const library = new Library(
      {
        normalizer: null,
        pre_tokenizer: wordSplitters[pattern],
        post_processor: null,
        decoder: null,
        added_tokens: [],
        model: {
          type: "BPE",
          vocab: Object.fromEntries(pieces.flatMap((piece, id) => (types[id] === 1 ? [[piece, id]] : []))),
          merges: merges.map((merge) => merge.split(" ")),
          ignore_merges: wholeWords,
        },
      },
      {},
    );
    const tokenizer = new Tokenizer(byteLevelVocabulary(merges, pattern));
    const ours = (text: string) => Array.from(tokenizer.encode(text));
    fc.assert(
      fc.property(texts, (text) => {
        expect(ours(text)).toEqual(library.encode(wellFormed(text), { add_special_tokens: false }).ids);
      }),
    );
  });

  // What is a word is told by whole words, of which each is a piece here.
  test.each<[WordPattern, string, string[]]>([
    ["gpt-2", "I'll  go, 12345\n\nnow", ["I", "'ll", " ", " go", ",", " 12345", "\n", "\n", "now"]],
    ["llama-bpe", "I'LL  go, 12345\n\nnow!\n", ["I", "'LL", " ", " go", ",", " ", "123", "45", "\n\n", "now", "!\n"]],
    ["smollm", "I'll  go, 12", ["I", "'ll", " ", " go", ",", " ", "1", "2"]],
  ])("%s cuts %j", (pattern, text, expected) => {
    const known = [...new Set(expected.map(inByteAlphabet))].filter((word) => word.length > 1);
    const all = learnMerges(expected, 1000);
    const tokenizer = new Tokenizer(byteLevelVocabulary(all, pattern));
    expect(known.every((word) => all.some((merge) => merge.replace(" ", "") === word))).toBe(true);
    expect(Array.from(tokenizer.encode(text), (id) => tokenizer.piece(id))).toEqual(expected.map(inByteAlphabet));
  });

  test("a word that is a piece is it, whatever merges, where the vocabulary says so", () => {
    const vocabulary = byteLevelVocabulary(["a b"], "llama-bpe", {});
    const withWord = {
      ...vocabulary,
      pieces: vocabulary.pieces.with(256 + 3, "abc"),
      types: vocabulary.types.with(259, 1),
    };
    const encode = (wholeWords: boolean) => [...new Tokenizer({ ...withWord, wholeWords }).encode("abc")];
    expect(encode(true)).toEqual([259]);
    expect(encode(false)).toEqual([256, 0x63]);
  });

  test("control tokens are never found in a text, and a merge to one is none", () => {
    const name = "<|eot_id|>";
    const makesControl = learnMerges([name], 50);
    expect(makesControl.at(-1)!.replace(" ", "")).toBe(name);
    const vocabulary = byteLevelVocabulary(makesControl, "gpt-2");
    const types = vocabulary.types.map((type, id) => (vocabulary.pieces[id] === name ? 3 : type));
    const tokenizer = new Tokenizer({ ...vocabulary, types, wholeWords: true });
    const tokens = Array.from(tokenizer.encode(`${name}a`));
    expect(tokens.filter((id) => types[id] === 3)).toEqual([]);
    expect(tokenizer.decode(tokens)).toBe(`${name}a`);
  });

  test("user-defined pieces are cut out of a text and stand for themselves", () => {
    const vocabulary = byteLevelVocabulary(merges, "llama-bpe");
    const pieces = vocabulary.pieces.with(-1, "<tool é>");
    const tokenizer = new Tokenizer({ ...vocabulary, pieces, types: vocabulary.types.with(-1, 4), ends: [] });
    expect(Array.from(tokenizer.encode("a<tool é>"))).toEqual([0x61, pieces.length - 1]);
    expect(tokenizer.decode([pieces.length - 1, 0x61])).toBe("<tool é>a");
  });

  test("a vocabulary without some bytes says so", () => {
    const vocabulary = byteLevelVocabulary([], "gpt-2");
    const tokenizer = new Tokenizer({ ...vocabulary, types: vocabulary.types.with(0x7a, 3) });
    expect(() => tokenizer.encode("z")).toThrow("must be of the vocabulary's pieces and bytes");
  });
});

describe("GGUF files", () => {
  test("Llama 3's keys", async () => {
    const vocabulary = await read("llama-bpe");
    const { ends, eos } = vocabulary;
    expect(vocabulary).toEqual({ ...byteLevelVocabulary(merges, "llama-bpe"), ends: [eos!, ends!.at(-1)] });
    expect(new Tokenizer(vocabulary).ends).toEqual([eos, eos! + 1]);
  });

  test("other names of a pattern, and what they say by themselves", async () => {
    expect((await read("llama3")).wordPattern).toBe("llama-bpe");
    expect(await read("gpt-2")).toMatchObject({ wordPattern: "gpt-2", addBos: false, wholeWords: false });
    expect(await read("smollm", { "tokenizer.ggml.add_bos_token": bool(true) })).toMatchObject({ addBos: true });
    const prefixed = await read("gpt-2", { "tokenizer.ggml.add_space_prefix": bool(true) });
    expect(prefixed.addSpacePrefix).toBe("unless-there");
    const tokenizer = new Tokenizer(prefixed);
    expect(tokenizer.encode("the")).toEqual(tokenizer.encode(" the"));
    expect(tokenizer.decode(tokenizer.encode("the"))).toBe("the");
  });

  test("the token that ends a turn", async () => {
    const { ends } = await read("llama-bpe", { "tokenizer.ggml.eot_token_id": u32(7) });
    expect(ends).toContain(7);
  });

  test.each<[string, Record<string, Value | undefined>, string, string?]>([
    [
      "a pattern that is not known",
      { "tokenizer.ggml.pre": string("tekken") },
      "tokenizer.ggml.pre",
      "ERR_CRIA_UNSUPPORTED",
    ],
    ["no pattern", { "tokenizer.ggml.pre": undefined }, "tokenizer.ggml.pre"],
    ["no merges", { "tokenizer.ggml.merges": undefined }, "tokenizer.ggml.merges"],
    ["a merge of one", { "tokenizer.ggml.merges": array("string", ["ab"]) }, "tokenizer.ggml.merges"],
    ["a merge of nothing", { "tokenizer.ggml.merges": array("string", [" a"]) }, "tokenizer.ggml.merges"],
    ["a merge of what is no piece", { "tokenizer.ggml.merges": array("string", ["a ▁"]) }, "tokenizer.ggml.merges"],
    ["a merge to what is no piece", { "tokenizer.ggml.merges": array("string", ["z z"]) }, "tokenizer.ggml.merges"],
    ["an end that is no token", { "tokenizer.ggml.eot_token_id": u32(5000) }, "tokenizer.ggml.eot_token_id"],
  ])("%s", async (_, changes, subject, code = "ERR_CRIA_FILE") => {
    await expect(read("llama-bpe", changes)).rejects.toMatchObject({ name: "CriaFileError", subject, code });
  });
});

test("the alphabet of bytes has 256 letters", () => {
  expect(new Set(byteCharacters).size).toBe(256);
  expect(inByteAlphabet(" \n\u00ad")).toBe("ĠĊÂŃ");
});
