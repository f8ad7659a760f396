import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it, type TestContext } from "vitest";
import { Tokenizer } from "../../lib/text/tokenizer.js";
import { readLlamaVocabulary } from "../../lib/weights/llama-gguf.js";
import type { Vocabulary } from "../../lib/weights/source.js";
import { dataFile, needFiles } from "../support/data.js";
import { byteTokens, type Entry, firstEntry, smallVocabulary } from "../support/vocabulary.js";

const llama2 = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");
const stories260K = dataFile("stories260K", "stories260Ktok512.gguf");
const criaTiny = dataFile("cria-tiny", "cria-tiny-q8_0.gguf");

const tokenizers = new Map<string, Promise<Tokenizer>>();

/** The tokenizer of a file's vocabulary; skips the test where the file is absent. */
async function tokenizerOf(context: TestContext, file: string): Promise<Tokenizer> {
  needFiles(context, file);
  const tokenizer = tokenizers.get(file) ?? readLlamaVocabulary(file).then((vocabulary) => new Tokenizer(vocabulary));
  tokenizers.set(file, tokenizer);
  return tokenizer;
}

const encode = (vocabulary: Vocabulary, text: string): number[] => Array.from(new Tokenizer(vocabulary).encode(text));

/** Well-formed texts without U+2581, which SentencePiece reads as a space. */
const texts = fc
  .array(fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constantFrom(" ", "  ", "\n", "the ", "<s>", "🦙")))
  .map((parts) => parts.join("").replaceAll("\u2581", ""));

describe("Llama 2's vocabulary", () => {
  it("gives the ids that llama.cpp gives for its test texts", async (context) => {
    const tokenizer = await tokenizerOf(context, llama2);
    const inputs = readFileSync(`${llama2}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
    const outputs = readFileSync(`${llama2}.out`, "utf8").split("\n");
    expect(inputs).toHaveLength(47);
    expect(outputs).toHaveLength(47);
    for (const [i, input] of inputs.entries()) {
      const expected = outputs[i]!.trim();
      expect(tokenizer.encode(input).join(" "), JSON.stringify(input)).toBe(expected);
    }
  });

  // karpathy/llama2.c, test.c: four of Meta's example prompts and the empty one, by Meta's tokenizer. Without BOS.
  it.for([
    ["", []],
    ["I believe the meaning of life is", [306, 4658, 278, 6593, 310, 2834, 338]],
    [
      "Simply put, the theory of relativity states that ",
      [3439, 17632, 1925, 29892, 278, 6368, 310, 14215, 537, 5922, 393, 29871],
    ],
    [
      "A brief message congratulating the team on the launch:\n\n        Hi everyone,\n\n        I just ",
      // biome-ignore format: a list of ids
      [319, 11473, 2643, 378, 629, 271, 18099, 278, 3815, 373, 278, 6826, 29901, 13, 13, 4706, 6324, 14332, 29892, 13,
        13, 4706, 306, 925, 29871],
    ],
    [
      "Translate English to French:\n\n        sea otter => loutre de mer\n        peppermint => menthe poivrée\n" +
        "        plush girafe => girafe peluche\n        cheese =>",
      // biome-ignore format: a list of ids
      [4103, 9632, 4223, 304, 5176, 29901, 13, 13, 4706, 7205, 4932, 357, 1149, 301, 449, 276, 316, 2778, 13, 4706,
        1236, 407, 837, 524, 1149, 6042, 354, 772, 440, 29878, 1318, 13, 4706, 715, 1878, 330, 3055, 1725, 1149, 330,
        3055, 1725, 4639, 28754, 13, 4706, 923, 968, 1149],
    ],
  ] as [string, number[]][])("gives Meta's ids for %j", async ([text, expected], context) => {
    const tokenizer = await tokenizerOf(context, llama2);
    expect(Array.from(tokenizer.encode(text))).toEqual(expected);
    expect(tokenizer.decode(expected)).toBe(text);
  });

  it("reads the names of control, unknown and byte tokens in a text as text", async (context) => {
    const tokenizer = await tokenizerOf(context, llama2);
    for (const name of ["<s>", "</s>", "<unk>", "<0x0A>"]) {
      const text = `a ${name} b${name}`;
      const tokens = tokenizer.encode(text);
      const special = tokens.filter((id) => id < 3 + 256);
      expect(Array.from(special), name).toEqual([]);
      expect(tokenizer.decode(tokens)).toBe(text);
    }
  });

  it("says which tokens are special", async (context) => {
    const tokenizer = await tokenizerOf(context, llama2);
    const { size, bos, eos, unknown, addBos } = tokenizer;
    expect({ size, bos, eos, unknown, addBos }).toEqual({ size: 32000, bos: 1, eos: 2, unknown: 0, addBos: true });
    expect([0, 1, 2, 13, 306].map((id) => tokenizer.piece(id))).toEqual(["<unk>", "<s>", "</s>", "<0x0A>", "▁I"]);
  });
});

describe("small models' vocabularies", () => {
  it.for(["f32", "q8_0", "q4_0"])("gives the prompt's tokens and the text of cria-tiny-%s", async (type, context) => {
    const recorded = dataFile("cria-tiny", `cria-tiny-${type}.json`);
    needFiles(context, recorded);
    const tokenizer = await tokenizerOf(context, dataFile("cria-tiny", `cria-tiny-${type}.gguf`));
    const { tokens, prompt, prompt_tokens, greedy } = JSON.parse(readFileSync(recorded, "utf8"));
    expect([tokenizer.bos, ...tokenizer.encode(prompt)]).toEqual(tokens.slice(0, prompt_tokens));
    expect(tokenizer.decode(tokens)).toBe(greedy);
  });

  it.for([criaTiny, stories260K, llama2])("gives back any text, %s", async (file, context) => {
    const tokenizer = await tokenizerOf(context, file);
    fc.assert(fc.property(texts, (text) => tokenizer.decode(tokenizer.encode(text)) === text));
  });

  it.for([criaTiny, llama2])("a text that follows another gets no space, %s", async (file, context) => {
    const tokenizer = await tokenizerOf(context, file);
    expect(tokenizer.encode("x", { continuation: true })).not.toEqual(tokenizer.encode("x"));
    expect(tokenizer.encode(" x", { continuation: true })).toEqual(tokenizer.encode("x"));
    fc.assert(
      fc.property(texts, texts, (first, second) => {
        const tokens = [...tokenizer.encode(first), ...tokenizer.encode(second, { continuation: true })];
        return first === "" || tokenizer.decode(tokens) === first + second;
      }),
    );
  });
});

describe("merging", () => {
  /** SentencePiece's algorithm, word by word as its paper has it: find the best pair, merge it, begin again. */
  function reference({ pieces, scores }: Vocabulary, text: string): string[] {
    const scoreOf = new Map(pieces.map((piece, id) => [piece, scores[id]!] as const).slice(firstEntry));
    const symbols = Array.from(`▁${text.replaceAll(" ", "▁")}`);
    for (;;) {
      let best = -1;
      let bestScore = Number.NEGATIVE_INFINITY;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const score = scoreOf.get(symbols[i]! + symbols[i + 1]!) ?? Number.NEGATIVE_INFINITY;
        if (score > bestScore) [best, bestScore] = [i, score];
      }
      if (best < 0) return symbols;
      symbols.splice(best, 2, symbols[best]! + symbols[best + 1]!);
    }
  }

  it("is SentencePiece's, ties and pieces over spaces included", () => {
    const letters = ["a", "b", "▁"].map((letter): Entry => [letter, -9, 1]);
    // Each piece is made of two before it, so that most can come to be; of few scores, so that many are equal.
    const step = fc.record({ left: fc.nat(), right: fc.nat(), score: fc.integer({ min: -3, max: 0 }) });
    const text = fc.string({ unit: fc.constantFrom("a", "b", " "), minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), text, (steps, text) => {
        const entries = [...letters];
        for (const { left, right, score } of steps) {
          const piece = entries[left % entries.length]![0] + entries[right % entries.length]![0];
          if (!entries.some(([other]) => other === piece)) entries.push([piece, score, 1]);
        }
        const vocabulary = smallVocabulary(entries);
        const tokens = encode(vocabulary, text).map((id) => vocabulary.pieces[id]);
        expect(tokens).toEqual(reference(vocabulary, text));
      }),
      { numRuns: 1000 },
    );
  });

  it("never makes a control, unknown or byte token, even of pieces that would", () => {
    const entries = ["<", "s", ">", "/", "<s", "<u", "nk", "<unk", "</", "</s", "0", "A", "<0", "x0", "<0x0", "A>"];
    const vocabulary = smallVocabulary(entries.map((piece): Entry => [piece, -1, 1]));
    const tokenizer = new Tokenizer({ ...vocabulary, addSpacePrefix: false });
    const pieces = (text: string) => Array.from(tokenizer.encode(text), (id) => tokenizer.piece(id));
    expect(pieces("<s></s>")).toEqual(["<s", ">", "</s", ">"]);
    expect(pieces("<0x0A>")).toEqual(["<0x0", "A>"]);
    expect(pieces("<unk>")).toEqual(["<unk", ">"]);
  });

  it("puts a space before a text only where the vocabulary says so", () => {
    const entries: Entry[] = [
      ["▁", -1, 1],
      ["a", -1, 1],
    ];
    expect(encode(smallVocabulary(entries), "a")).toEqual([firstEntry, firstEntry + 1]);
    expect(encode(smallVocabulary(entries, { addSpacePrefix: false }), "a")).toEqual([firstEntry + 1]);
    expect(encode(smallVocabulary(entries), "")).toEqual([]);
  });
});

describe("what is no piece", () => {
  const noPrefix = { addSpacePrefix: false };

  it("becomes bytes", () => {
    expect(encode(smallVocabulary([], noPrefix), "é")).toEqual(byteTokens(0xc3, 0xa9));
  });

  it("becomes the unknown token where a byte is missing", () => {
    const { pieces, scores, types } = smallVocabulary([["a", 0, 1]]);
    const without = byteTokens(0xa9)[0]!;
    const keep = <T>(list: readonly T[]) => list.filter((_, id) => id !== without);
    const vocabulary = smallVocabulary([], {
      ...noPrefix,
      pieces: keep(pieces),
      scores: keep(scores),
      types: keep(types),
    });
    expect(encode(vocabulary, "aéa")).toEqual([firstEntry - 1, 0, firstEntry - 1]);
    expect(() => encode({ ...vocabulary, unknown: undefined }, "aéa")).toThrow(
      /^text: must be of the vocabulary's pieces/,
    );
  });

  it("is U+FFFD where it is half of a surrogate pair", () => {
    expect(encode(smallVocabulary([], noPrefix), "\ud83d")).toEqual(byteTokens(0xef, 0xbf, 0xbd));
  });
});

describe("user-defined pieces", () => {
  const entries: Entry[] = [
    ["▁", -1, 1],
    ["a", -1, 1],
    ["<x>", 0, 4],
    ["<x> y", 0, 4],
    ["aa", 0, 1],
  ];
  const [space, a, x, xy] = [firstEntry, firstEntry + 1, firstEntry + 2, firstEntry + 3];

  it("are cut out of a text, the longest first, with no space after them", () => {
    expect(encode(smallVocabulary(entries), "a<x>a<x> y")).toEqual([space, a, x, a, xy]);
  });

  it("come back as they were", () => {
    const tokenizer = new Tokenizer(smallVocabulary(entries));
    const text = fc.array(fc.constantFrom("<x>", "<x> y", "a", " ", "<", "é")).map((parts) => parts.join(""));
    fc.assert(fc.property(text, (text) => tokenizer.decode(tokenizer.encode(text)) === text));
  });
});

describe("odd vocabularies", () => {
  it("may hold a piece twice: the last counts", () => {
    const entries: Entry[] = [
      ["▁", -1, 1],
      ["a", -1, 1],
      ["a", -2, 1],
    ];
    expect(encode(smallVocabulary(entries), "a")).toEqual([firstEntry, firstEntry + 2]);
  });

  it("may hold empty pieces, names of Object.prototype and lone surrogates", () => {
    const names = ["__proto__", "constructor", "toString"];
    const parts = [...new Set(names.flatMap((name) => Array.from(name, (_, i) => name.slice(0, i + 1))))];
    const entries: Entry[] = [
      ["", 0, 1],
      ["", 0, 4],
      ["\ud800", 0, 1],
      ...parts.map((part): Entry => [part, part.length, 1]),
    ];
    const vocabulary = smallVocabulary(entries, { addSpacePrefix: false });
    const tokenizer = new Tokenizer(vocabulary);
    for (const name of names) expect(encode(vocabulary, name)).toEqual([vocabulary.pieces.indexOf(name)]);
    expect(tokenizer.decode([firstEntry, firstEntry + 1])).toBe("");
    expect(tokenizer.decode([firstEntry + 2])).toBe("\ufffd");
    expect(Array.from(tokenizer.encode("\ud800"))).toEqual(byteTokens(0xef, 0xbf, 0xbd));
  });

  it("may hold a text piece of a byte's name", () => {
    const parts = ["<0", "x4", "<0x4", "1>", "<0x41>"].map((piece): Entry => [piece, 0, 1]);
    const vocabulary = smallVocabulary(parts, { addSpacePrefix: false });
    expect(encode(vocabulary, "\nA")).toEqual(byteTokens(0x0a, 0x41));
    expect(new Tokenizer(vocabulary).decode(encode(vocabulary, "<0x41>"))).toBe("<0x41>");
  });

  it("may hold pieces of 100,000 characters, which cost no more than they hold", () => {
    const long = "ab".repeat(50_000);
    const entries: Entry[] = [
      ["ab", -1, 1],
      [long, -2, 1],
      [`${long}c`, -3, 1],
      [`c${long}`, -4, 1],
    ];
    const tokenizer = new Tokenizer(smallVocabulary(entries, { addSpacePrefix: false }));
    expect(tokenizer.encode(long)).toEqual(new Int32Array(50_000).fill(firstEntry));
    expect(tokenizer.decode([firstEntry + 1])).toBe(long);
  });

  it.for<[string, (vocabulary: Vocabulary) => Partial<Vocabulary>, RegExp]>([
    ["no pieces", () => ({ pieces: [], scores: [], types: [] }), /the number of pieces: must be at least 1, not 0/],
    ["few scores", ({ scores }) => ({ scores: scores.slice(1) }), /the number of scores: must be that of pieces, 260/],
    ["few types", ({ types }) => ({ types: types.slice(1) }), /the number of types: must be that of pieces, 260/],
    ["an unknown type", ({ types }) => ({ types: types.with(4, 7) }), /the type of piece 4: must be .* not 7/],
    ["a score that is NaN", ({ scores }) => ({ scores: scores.with(4, Number.NaN) }), /score of piece 4: .* not NaN/],
    ["no string", ({ pieces }) => ({ pieces: pieces.with(4, 7 as never) }), /piece 4: must be a string, not 7/],
    ["an odd byte", ({ pieces }) => ({ pieces: pieces.with(4, "<0x-1>") }), /byte piece 4: .* <0x0A>, not "<0x-1>"/],
    ["a byte in small letters", ({ pieces }) => ({ pieces: pieces.with(13, "<0x0a>") }), /byte piece 13: .*"<0x0a>"/],
    ["a BOS out of range", () => ({ bos: 0xffffffff }), /bos: must be an integer from 0 to 259, not 4294967295/],
    ["an EOS that is none", () => ({ eos: 1.5 }), /eos: must be an integer from 0 to 259, not 1.5/],
    ["an end that is none", () => ({ ends: [2, 260] }), /a token that ends: must be an integer from 0 to 259, not 260/],
    ["merges that are none", () => ({ merges: "a b" as never }), /merges: must be an array, not "a b"/],
    ["a merge that is none", () => ({ merges: ["a b", 7 as never] }), /merge 1: must be a string, not 7/],
    ["unknown words", () => ({ wordPattern: "bert" as never }), /wordPattern: must be gpt-2 or .* not "bert"/],
    ["a huge user-defined piece", () => smallVocabulary([["a".repeat(1025), 0, 4]]), /user-defined piece 259: .* 1024/],
  ])("may not have %s", ([, change, message]) => {
    const vocabulary = smallVocabulary([["a", 0, 1]]);
    const build = () => new Tokenizer({ ...vocabulary, ...change(vocabulary) });
    expect(build).toThrow(expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_FILE" }));
    expect(build).toThrow(message);
  });
});

describe("wrong arguments", () => {
  const tokenizer = new Tokenizer(smallVocabulary([]));

  it.for<[string, () => unknown, ErrorConstructor, string]>([
    ["a text that is none", () => tokenizer.encode(7 as never), TypeError, "text: must be a string, not 7"],
    ["a high id", () => tokenizer.piece(259), RangeError, "id: must be an integer from 0 to 258, not 259"],
    ["a broken id", () => tokenizer.decode([0.5]), RangeError, "id: must be an integer from 0 to 258, not 0.5"],
    [
      "a text in the place of ids",
      () => tokenizer.decode("abc" as never),
      TypeError,
      'ids: must be an iterable of numbers, not "abc"',
    ],
    ["no ids", () => tokenizer.decode(7 as never), TypeError, "ids: must be an iterable of numbers, not 7"],
    ["an id that is none", () => tokenizer.decode(["1" as never]), TypeError, 'id: must be a number, not "1"'],
  ])("are typed errors: %s", ([, call, type, message]) => {
    expect(call).toThrow(expect.objectContaining({ name: type.name, code: "ERR_CRIA_ARGUMENT", message }));
  });
});
