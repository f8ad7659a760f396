import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { TokenDecoder } from "../../lib/text/decoder.js";
import { Tokenizer } from "../../lib/text/tokenizer.js";
import { byteTokens, type Entry, firstEntry, smallVocabulary } from "../support/vocabulary.js";

const entries: Entry[] = [
  ["▁", -1, 1],
  ["▁a", -1, 1],
  ["é🦙", -1, 1],
  ["<x> ", 0, 4],
  ["unused", 0, 5],
  ["", 0, 1],
  ["\ud83d", 0, 1],
  ["\ufeff", 0, 1],
];
const [space, a, , , , empty] = entries.map((_, i) => firstEntry + i) as [
  number,
  number,
  number,
  number,
  number,
  number,
];
const [unknown, bos, eos] = [0, 1, 2];
const vocabulary = smallVocabulary(entries);

/** The texts of the pushes, and of the end. */
function decodeEach(ids: readonly number[], options?: { continuation: boolean }): string[] {
  const decoder = new TokenDecoder(vocabulary, options);
  return [...ids.map((id) => decoder.push(id)), decoder.end()];
}

/** The text of all tokens by its meaning: the bytes of all, decoded together, less the space of the prefix. */
function reference(ids: readonly number[], continuation: boolean): string {
  const bytes = ids.flatMap((id) => {
    const piece = vocabulary.pieces[id]!;
    if (id === unknown) return [...new TextEncoder().encode(" ⁇ ")];
    if (id === bos || id === eos) return [];
    if (id < firstEntry) return [id - 3];
    return [...new TextEncoder().encode(piece.replaceAll("▁", " "))];
  });
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  return continuation ? text : text.replace(/^ /, "");
}

describe("the pushes and the end together", () => {
  const id = fc.oneof(
    fc.integer({ min: 0, max: vocabulary.pieces.length - 1 }),
    fc.integer({ min: firstEntry, max: vocabulary.pieces.length - 1 }),
  );
  // Characters whole, cut and in wrong order.
  const bytes = fc
    .tuple(fc.string({ unit: "binary", maxLength: 2 }), fc.nat(3), fc.nat(8))
    .map(([text, from, to]) => byteTokens(...new TextEncoder().encode(text).subarray(from, to)));
  const ids = fc
    .array(
      fc.oneof(
        id.map((id) => [id]),
        bytes,
      ),
    )
    .map((parts) => parts.flat());

  it("are the text of the whole", () => {
    fc.assert(
      fc.property(ids, fc.boolean(), (ids, continuation) => {
        expect(decodeEach(ids, { continuation }).join("")).toBe(reference(ids, continuation));
      }),
      { numRuns: 2000 },
    );
  });

  it("are what the tokenizer decodes", () => {
    const tokenizer = new Tokenizer(vocabulary);
    fc.assert(fc.property(ids, (ids) => decodeEach(ids).join("") === tokenizer.decode(ids)));
  });
});

describe("bytes", () => {
  it("are held until they are a character", () => {
    expect(decodeEach(byteTokens(0xc3, 0xa9, 0x41))).toEqual(["", "é", "A", ""]);
    expect(decodeEach(byteTokens(0xf0, 0x9f, 0xa6, 0x99))).toEqual(["", "", "", "🦙", ""]);
  });

  it("are text even where they are a byte order mark", () => {
    expect(decodeEach(byteTokens(0xef, 0xbb, 0xbf, 0x41))).toEqual(["", "", "\ufeff", "A", ""]);
  });

  it("are U+FFFD as soon as they cannot be one", () => {
    expect(decodeEach([...byteTokens(0xe2, 0x96), a])).toEqual(["", "", "\ufffd a", ""]);
    expect(decodeEach(byteTokens(0xff, 0xc3, 0x41))).toEqual(["\ufffd", "", "\ufffdA", ""]);
    expect(decodeEach(byteTokens(0xf0, 0x9f))).toEqual(["", "", "\ufffd"]);
  });

  it("go on over tokens without text", () => {
    expect(decodeEach([...byteTokens(0xc3), bos, empty, ...byteTokens(0xa9)])).toEqual(["", "", "", "é", ""]);
  });
});

describe("the leading space", () => {
  it("is dropped once, at the start of a whole text", () => {
    expect(decodeEach([bos, a, a])).toEqual(["", "a", " a", ""]);
    expect(decodeEach([space, a])).toEqual(["", " a", ""]);
  });

  it("stays in a continuation, and where there is no prefix", () => {
    expect(decodeEach([a, a], { continuation: true })).toEqual([" a", " a", ""]);
    const decoder = new TokenDecoder({ ...vocabulary, addSpacePrefix: false });
    expect(decoder.push(a)).toBe(" a");
  });
});

describe("tokens that are no text", () => {
  it("give nothing, the unknown one a sign", () => {
    expect(decodeEach([bos, eos, unknown], { continuation: true })).toEqual(["", "", " ⁇ ", ""]);
  });

  it("give an error if the vocabulary has none such", () => {
    const decoder = new TokenDecoder(vocabulary);
    for (const id of [-1, vocabulary.pieces.length, Number.NaN]) expect(() => decoder.push(id)).toThrow(RangeError);
    expect(() => decoder.push("1" as never)).toThrow(TypeError);
  });
});
