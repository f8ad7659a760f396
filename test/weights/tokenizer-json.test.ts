import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { llama3Words } from "../../lib/text/pipeline.js";
import { Tokenizer } from "../../lib/text/tokenizer.js";
import { readChatTemplate } from "../../lib/weights/hugging-face-tokenizer.js";
import { readLlamaVocabulary } from "../../lib/weights/llama-gguf.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { dataFile, needFiles } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { smallTokenizer, tokenizerJsonOf, writeModel } from "../support/hugging-face.js";
import { bytesField, integerField, sentencePiece } from "../support/sentencepiece-writer.js";

type Changes = NonNullable<Parameters<typeof writeModel>[1]>;

async function read(changes: Changes = {}) {
  await using folder = await temporaryFolder();
  return await readVocabulary(await writeModel(folder, { tensors: {}, ...changes }));
}

const modelWith = (changes: Record<string, unknown>) => ({
  tokenizer: { model: { ...(smallTokenizer().model as object), ...changes } },
});

const added = (id: number, content: string, special: boolean) => ({ id, content, special });

/** The ids that @huggingface/tokenizers itself gives a text. */
const libraryIds = (json: object, text: string): number[] =>
  new Library(json, {}).encode(text, { add_special_tokens: false }).ids;

describe("tokenizer.json", () => {
  test("LLaMA's kind", async () => {
    const { pieces, types, merges, ...rest } = await read();
    expect(pieces).toHaveLength(300);
    expect(pieces.slice(257, 266)).toEqual(["<0xFE>", "<0xFF>", "▁", "a", "b", "▁a", "ab", "", ""]);
    expect([...types.slice(0, 4), ...types.slice(258, 266)]).toEqual([2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 5, 5]);
    expect(merges).toEqual(["a b", "▁ a"]);
    expect(rest).toMatchObject({ bos: 1, eos: undefined, unknown: 0, addBos: true, addSpacePrefix: true });
    expect(rest).toMatchObject({ fuseUnknown: true, wholeWords: false });
    const tokenizer = new Tokenizer(await read());
    expect(Array.from(tokenizer.encode("ab a\n<s>"))).toEqual([259, 263, 262, 13, 63, 118, 65]);
    expect(tokenizer.decode(tokenizer.encode("ab a\n<s>é"))).toBe("ab a\n<s>é");
  });

  test("Llama 2's pieces, their scores made merges, give llama.cpp's ids and those of @huggingface/tokenizers", async (context) => {
    const vectors = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");
    needFiles(context, vectors);
    const json = tokenizerJsonOf(await readLlamaVocabulary(vectors));
    const tokenizer = new Tokenizer(await read({ config: { vocab_size: 32_000 }, tokenizer: json }));
    const library = new Library(json, {});
    const inputs = readFileSync(`${vectors}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
    const outputs = readFileSync(`${vectors}.out`, "utf8").split("\n");
    for (const [i, input] of inputs.entries()) {
      expect(tokenizer.encode(input).join(" "), JSON.stringify(input)).toBe(outputs[i]!.trim());
      expect(library.encode(input, { add_special_tokens: false }).ids.join(" ")).toBe(outputs[i]!.trim());
    }
  });

  test("a real one gives the ids of @huggingface/tokenizers, but for the names of its special tokens", async (context) => {
    const folder = dataFile("tinystories-656k-hf");
    needFiles(context, folder, dataFile("tinystories", "validation_100.txt"));
    const tokenizer = new Tokenizer(await readVocabulary(folder));
    const library = new Library(JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8")), {});
    const stories = readFileSync(dataFile("tinystories", "validation_100.txt"), "utf8").split("<|endoftext|>");
    expect(stories.length).toBeGreaterThan(90);
    for (const story of [...stories, "", " ", "  a", "Zoë 🦙🦙 ate\ttwo ▁ llamas"]) {
      const { ids } = library.encode(story, { add_special_tokens: false });
      expect(Array.from(tokenizer.encode(story))).toEqual(ids);
    }
    expect(tokenizer).toMatchObject({ size: 2048, bos: 1, eos: 2, ends: [2], unknown: 0, addBos: true });
    const tokens = tokenizer.encode("<|start_story|>");
    expect(tokens).not.toContain(1);
    expect(library.encode("<|start_story|>", { add_special_tokens: false }).ids).toContain(1);
  });

  const texts = fc
    .array(fc.constantFrom("a", "b", " ", "  ", "ab", "\n", "é", "🦙", "▁"))
    .map((parts) => parts.join(""));
  const metaspace = (rest: object) => ({
    ...smallTokenizer(),
    normalizer: null,
    pre_tokenizer: { type: "Metaspace", replacement: "▁", ...rest },
  });
  const [prepend, replace] = (smallTokenizer().normalizer as { normalizers: object[] }).normalizers;

  test.each<[what: string, json: Record<string, unknown>, prefix: boolean | "unless-there"]>([
    ["Metaspace, first", metaspace({ prepend_scheme: "first", split: false }), "unless-there"],
    ["Metaspace, always", metaspace({ prepend_scheme: "always", split: false }), "unless-there"],
    ["Metaspace, never", metaspace({ prepend_scheme: "never", split: false }), false],
    [
      "Replace and Prepend",
      { ...smallTokenizer(), normalizer: { type: "Sequence", normalizers: [prepend, replace] } },
      true,
    ],
    ["Replace alone", { ...smallTokenizer(), normalizer: replace }, false],
  ])("spaces by %s: the ids of @huggingface/tokenizers", async (_, json, prefix) => {
    const vocabulary = await read({ tokenizer: json });
    expect(vocabulary.addSpacePrefix).toBe(prefix);
    const tokenizer = new Tokenizer(vocabulary);
    const library = new Library(json, {});
    fc.assert(
      fc.property(texts, (text) => {
        const { ids } = library.encode(text, { add_special_tokens: false });
        expect(Array.from(tokenizer.encode(text)), JSON.stringify(text)).toEqual(ids);
      }),
    );
  });

  test("Metaspace that splits lets no piece reach over a space", async () => {
    const { model } = smallTokenizer() as { model: { vocab: object; merges: string[] } };
    const spaces = { ...model, vocab: { ...model.vocab, "▁▁": 264, "b▁": 265 }, merges: ["▁ ▁", "b ▁", "a b"] };
    const encode = async (split: boolean | undefined) => {
      const json = {
        ...metaspace({ prepend_scheme: "never", ...(split === undefined ? {} : { split }) }),
        model: spaces,
      };
      return [...new Tokenizer(await read({ tokenizer: json })).encode("b  b")];
    };
    expect(await encode(false)).toEqual([261, 264, 261]);
    expect(await encode(true)).toEqual([261, 259, 259, 261]);
    expect(await encode(undefined)).toEqual([261, 259, 259, 261]);
  });

  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const split = { type: "Split", pattern: { Regex: llama3Words }, behavior: "Isolated", invert: false };
  const sequence = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers });
  test.each([
    ["gpt-2", byteLevel],
    ["gpt-2", sequence(byteLevel)],
    ["llama-bpe", sequence(split, { ...byteLevel, use_regex: false })],
    ["smollm", sequence({ type: "Digits", individual_digits: true }, byteLevel)],
  ])("byte-level pieces, %s", async (wordPattern, pre_tokenizer) => {
    const vocabulary = await read({ tokenizer: { normalizer: null, pre_tokenizer } });
    expect(vocabulary).toMatchObject({ wordPattern, addSpacePrefix: false });
  });

  test("added tokens: control where they are special, user-defined where not, and none beyond the embedding", async () => {
    const added_tokens = [
      ...(smallTokenizer().added_tokens as object[]),
      added(270, "<|im_end|>", true),
      added(271, "<tool>", false),
      added(300, "<pad>", true),
    ];
    const vocabulary = await read({ tokenizer: { added_tokens } });
    expect(vocabulary.pieces.slice(270, 272)).toEqual(["<|im_end|>", "<tool>"]);
    expect(vocabulary.types.slice(270, 272)).toEqual([3, 4]);
    expect(vocabulary.pieces).toHaveLength(300);
    const tokenizer = new Tokenizer(vocabulary);
    const tokens = Array.from(tokenizer.encode("a<tool>a<|im_end|>"));
    expect(tokens).toContain(271);
    expect(tokens).not.toContain(270);
    expect(tokenizer.decode(tokens)).toBe("a<tool>a<|im_end|>");
    expect(libraryIds({ ...smallTokenizer(), added_tokens }, "a<|im_end|>")).toContain(270);
  });

  test("merges that are pairs, a piece called __proto__, and no template", async () => {
    const vocab = JSON.parse('{"__proto__":5,"a":0,"b":1,"ab":2,"▁":3}');
    const { pieces, merges, addBos, types } = await read({
      tokenizer: { model: { type: "BPE", vocab, merges: [["a", "b"]] }, added_tokens: [], post_processor: null },
    });
    expect([pieces[5], types[5], merges, addBos]).toEqual(["__proto__", 1, ["a b"], false]);
  });

  const unsupported = "ERR_CRIA_UNSUPPORTED";
  test.each<[what: string, changes: Changes, message: string, code?: string]>([
    ["Unigram", modelWith({ type: "Unigram" }), 'model.type: must be "BPE", not "Unigram"', unsupported],
    ["dropout", modelWith({ dropout: 0.1 }), "model.dropout: must be 0", unsupported],
    ["a suffix", modelWith({ end_of_word_suffix: "</w>" }), "model.end_of_word_suffix: must be empty", unsupported],
    [
      "a prefix",
      modelWith({ continuing_subword_prefix: "##" }),
      "continuing_subword_prefix: must be empty",
      unsupported,
    ],
    [
      "words that are pieces, where a text may have the name of a byte",
      modelWith({ ignore_merges: true }),
      "model.ignore_merges: must be false where spaces are U+2581, not true",
      unsupported,
    ],
    ["another normalizer", { tokenizer: { normalizer: { type: "NFKC" } } }, 'GPT-2\'s, not "NFKC"', unsupported],
    ["no spaces at all", { tokenizer: { normalizer: null } }, "GPT-2's, not none", unsupported],
    [
      "other words",
      { tokenizer: { normalizer: null, pre_tokenizer: { type: "BertPreTokenizer" } } },
      "Bert",
      unsupported,
    ],
    [
      "words by another pattern, which could take forever",
      {
        tokenizer: {
          normalizer: null,
          pre_tokenizer: sequence({ ...split, pattern: { Regex: "(a+)+$" } }, { ...byteLevel, use_regex: false }),
        },
      },
      'not "Split", "ByteLevel"',
      unsupported,
    ],
    ["no model", { tokenizer: { model: undefined } }, "model: must be an object, but is missing"],
    ["no pieces", modelWith({ vocab: undefined }), "model.vocab: must be an object, but is missing"],
    ["an id beyond the model's", modelWith({ vocab: { a: 300 } }), "model.vocab.a: must be an integer from 0 to 299"],
    ["an id that is none", modelWith({ vocab: { a: "1" } }), "model.vocab.a: must be an integer from 0 to 299"],
    [
      "an id that stands twice",
      modelWith({ vocab: { a: 1, b: 1 } }),
      "model.vocab.b: must have an id of its own, not 1",
    ],
    ["no merges", modelWith({ merges: undefined }), "model.merges: must be an array, but is missing"],
    ["a merge of three", modelWith({ merges: [["a", "b", "a"]] }), "its element 0 must be two pieces"],
    [
      "a merge of what is no piece",
      modelWith({ merges: ["a b", "a c"] }),
      'element 1 must be two pieces that make one, not "a c"',
    ],
    ["a merge to what is no piece", modelWith({ merges: ["b b"] }), "its element 0 must be two pieces that make one"],
    ["added tokens that are none", { tokenizer: { added_tokens: [1] } }, "added_tokens.0: must be an object, not 1"],
    [
      "an added token without an id",
      { tokenizer: { added_tokens: [{ content: "" }] } },
      "added_tokens.0.id: must be an",
    ],
    ["too long a text", { files: { "tokenizer.json": "[" } }, "tokenizer.json: must be JSON"],
    ["no tokenizer", { files: { "tokenizer.json": undefined } }, "must have a tokenizer.json or a tokenizer.model"],
  ])("%s is refused", async (_, changes, message, code = "ERR_CRIA_FILE") => {
    const refused = read(changes);
    await expect(refused).rejects.toMatchObject({ name: "CriaFileError", code });
    await expect(refused).rejects.toThrow(message);
  });
});

describe("tokenizer.model", () => {
  const without = { "tokenizer.json": undefined };
  const model = sentencePiece([
    ["▁", -1],
    ["a", -2],
    ["▁a", -3],
  ]);

  test("its pieces, those that were added, and rows that have none", async () => {
    const vocabulary = await read({
      files: {
        ...without,
        "tokenizer.model": model,
        "added_tokens.json": { "[PAD]": 262, "<tool>": 264, "<far>": 300 },
        "tokenizer_config.json": {
          added_tokens_decoder: { 1: added(1, "<s>", true), 264: added(264, "<tool>", false) },
          pad_token: "[PAD]",
        },
      },
    });
    expect(vocabulary.pieces.slice(259, 265)).toEqual(["▁", "a", "▁a", "[PAD]", "", "<tool>"]);
    expect(vocabulary.types.slice(259, 266)).toEqual([1, 1, 1, 3, 5, 4, 5]);
    expect([vocabulary.pieces.length, vocabulary.scores.length, vocabulary.types.length]).toEqual([300, 300, 300]);
    expect(vocabulary).toMatchObject({ bos: 1, eos: 2, addBos: true, unknown: 0 });
    expect(Array.from(new Tokenizer(vocabulary).encode("a<tool>[PAD]")).slice(0, 3)).toEqual([261, 264, 3 + 0x5b]);
  });

  test("is not asked where there is a tokenizer.json", async () => {
    expect((await read({ files: { "tokenizer.model": "nonsense" } })).merges).toHaveLength(2);
  });

  test("more pieces than the model has, and what is no model", async () => {
    const files = { ...without, "tokenizer.model": model };
    await expect(read({ config: { vocab_size: 261 }, files })).rejects.toThrow("must have at most 261 pieces, not 262");
    await expect(read({ files: { ...without, "tokenizer.model": "nonsense" } })).rejects.toThrow(
      "tokenizer.model: must",
    );
    const unigram = sentencePiece([], bytesField(2, integerField(3, 1)));
    await expect(read({ files: { ...without, "tokenizer.model": unigram } })).rejects.toThrow("must be BPE");
  });
});

describe("a tokenizer's own file, as the vocabulary of a model that is elsewhere", () => {
  test("tokenizer.json", async () => {
    await using folder = await temporaryFolder();
    const json = {
      ...smallTokenizer(),
      added_tokens: [...(smallTokenizer().added_tokens as []), added(270, "<x>", true)],
    };
    const path = await folder.write("any-name", Buffer.from(JSON.stringify(json, null, 2)));
    const vocabulary = await readVocabulary(path);
    expect(vocabulary.pieces).toHaveLength(271);
    expect(vocabulary).toMatchObject({ bos: 1, eos: undefined, addBos: true, merges: ["a b", "▁ a"] });
    await expect(readModel(path)).rejects.toThrow("must be a model, not a tokenizer alone");
  });

  test("tokenizer.model", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("any-name", sentencePiece([["a", -1]]));
    expect(await readVocabulary(path)).toMatchObject({ bos: 1, eos: 2, addBos: true });
    await expect(readModel(path)).rejects.toThrow("must be a model, not a tokenizer alone");
  });

  test("ids that no vocabulary has", async () => {
    await using folder = await temporaryFolder();
    const model = { ...(smallTokenizer().model as object), vocab: { a: 2 ** 31 } };
    const path = await folder.write("x", Buffer.from(JSON.stringify({ ...smallTokenizer(), model })));
    await expect(readVocabulary(path)).rejects.toThrow("model.vocab: must have ids below 1048576, not 2147483648");
    const other = await folder.write("y", Buffer.from('{"hello": 1}'));
    await expect(readVocabulary(other)).rejects.toMatchObject({ name: "CriaFileError", subject: "model" });
  });
});

describe("which tokens begin and end a text", () => {
  const settings = (values: object) => ({ files: { "tokenizer_config.json": values } });

  test("as tokenizer_config.json names them, as strings or objects", async () => {
    const named = await read(settings({ bos_token: "<s>", eos_token: { content: "</s>" } }));
    expect(named).toMatchObject({ bos: 1, eos: 2, addBos: true });
    expect(await read(settings({ bos_token: "a", eos_token: "none" }))).toMatchObject({ bos: 260, eos: undefined });
  });

  test("an empty name is no token's, also where rows have no piece", async () => {
    const unnamed = await read({
      ...settings({ bos_token: "", eos_token: { content: "" } }),
      ...modelWith({ unk_token: "" }),
      config: { bos_token_id: 1 },
    });
    expect(unnamed.pieces[264]).toBe("");
    expect(unnamed).toMatchObject({ bos: 1, eos: undefined, unknown: undefined });
    expect(unnamed.types[264]).toBe(5);
  });

  test("as the ids of config.json and generation_config.json, of which there may be several", async () => {
    expect(await read({ config: { bos_token_id: 1, eos_token_id: 2 } })).toMatchObject({ bos: 1, eos: 2, ends: [2] });
    const several = await read({
      config: { eos_token_id: [2, 5] },
      files: { "generation_config.json": { bos_token_id: 4, eos_token_id: [5, 7] } },
    });
    expect(several).toMatchObject({ bos: 4, eos: 5, ends: [5, 7, 2] });
    expect(new Tokenizer(several).ends).toEqual([5, 7, 2]);
    expect(await read({ config: { eos_token_id: -1, bos_token_id: 300 } })).toMatchObject({ bos: 1, eos: undefined });
  });

  test("BOS is added as the settings say, as LLaMA's tokenizer does, or as the template does", async () => {
    const addBos = async (values: object, tokenizer: object = {}) => {
      return (await read({ ...settings({ bos_token: "<s>", ...values }), tokenizer: { ...tokenizer } })).addBos;
    };
    const bare = { post_processor: null };
    expect(await addBos({})).toBe(true);
    expect(await addBos({ add_bos_token: false })).toBe(false);
    expect(await addBos({}, bare)).toBe(false);
    expect(await addBos({ bos_token: undefined }, bare)).toBe(false);
    expect(await addBos({ add_bos_token: true }, bare)).toBe(true);
    expect(await addBos({ tokenizer_class: "LlamaTokenizerFast" }, bare)).toBe(true);
    expect(await addBos({ bos_token: "a" })).toBe(false);
    const { post_processor } = smallTokenizer();
    const inSequence = { type: "Sequence", processors: [{ type: "ByteLevel" }, post_processor] };
    expect(await addBos({}, { post_processor: inSequence })).toBe(true);
    expect(await addBos({}, { post_processor: { type: "TemplateProcessing", single: [] } })).toBe(false);
  });

  test.each<[string, Changes, string]>([
    [
      "an id that is none",
      { config: { eos_token_id: "2" } },
      'eos_token_id: must be an id, or a list of them, not "2"',
    ],
    ["a list that has none", { config: { eos_token_id: [2, null] } }, "eos_token_id: must be an id"],
    ["a name that is none", settings({ bos_token: 5 }), "bos_token: must be an object, not 5"],
    ["settings that are none", { files: { "tokenizer_config.json": "1" } }, "must hold a JSON object, not 1"],
    [
      "an added token that is none",
      { files: { "tokenizer.json": undefined, "tokenizer.model": sentencePiece([]), "added_tokens.json": { a: "b" } } },
      "a: must be an id",
    ],
  ])("%s is refused", async (_, changes, message) => {
    await expect(read(changes)).rejects.toThrow(message);
  });
});

describe("chat templates", () => {
  async function template(files: Changes["files"]) {
    await using folder = await temporaryFolder();
    return await readChatTemplate(await writeModel(folder, { files: files! }));
  }
  const config = (chat_template: unknown) => ({ "tokenizer_config.json": { chat_template } });
  const named = (name: string) => ({ name, template: `{{ ${name} }}` });

  test("none, one, one of several, and a file of its own", async () => {
    expect(await template({})).toBeUndefined();
    expect(await template(config(null))).toBeUndefined();
    expect(await template(config("{{ x }}"))).toBe("{{ x }}");
    expect(await template(config([named("tool_use"), named("default")]))).toBe("{{ default }}");
    expect(await template(config([named("rag"), named("tool_use")]))).toBe("{{ rag }}");
    expect(await template({ ...config("{{ x }}"), "chat_template.jinja": "{{ é }}" })).toBe("{{ é }}");
  });

  test("what is no template is refused", async () => {
    await expect(template(config(5))).rejects.toThrow("chat_template: must be a string, not 5");
    await expect(template(config([{ name: "default" }]))).rejects.toThrow("must be a template, or a list of such");
    await expect(template(config([null]))).rejects.toThrow("must be a template, or a list of such");
    await expect(template({ "chat_template.jinja": "x".repeat(2 ** 20 + 1) })).rejects.toThrow("at most 1048576 bytes");
    await expect(template({ "chat_template.jinja": Buffer.of(0xff) })).rejects.toThrow("must be UTF-8");
  });
});
