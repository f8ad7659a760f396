import { Tokenizer } from "../../../lib/index.js";
import { spaceMark } from "../../../lib/text/decoder.js";
import { pieceTypes, type Vocabulary } from "../../../lib/weights/source.js";
import { Input } from "../input.js";
import { Finding, type Target } from "../target.js";

/**
 * Vocabularies of any pieces, scores and types, with texts: what is taken encodes and decodes. One with all bytes and
 * U+2581 gives every text back.
 */
export const tokenizer: Target = {
  dictionary: ["<0x0A>", "<0x-1>", "<0xff>", "<unk>", "<s>", spaceMark, "\ufeff", "\u{1f600}", "__proto__", "aa", " a"],
  async run(bytes) {
    const input = new Input(bytes);
    const whole = input.u8() < 128;
    const vocabulary = readVocabulary(input, whole);
    const one = new Tokenizer(vocabulary);
    for (let texts = 0; texts < 4 && !input.empty; texts++) {
      const text = readString(input, input.u16() % 512);
      const continuation = input.u8() % 2 === 1;
      check(one, text, continuation, whole);
    }
    one.decode(Int32Array.from({ length: 20 }, () => input.u16() % one.size));
  },
};

function check(one: Tokenizer, text: string, continuation: boolean, whole: boolean): void {
  const ids = encode(one, text, continuation, whole);
  if (ids === undefined) return;
  const decoder = one.decoder({ continuation });
  const streamed = [...ids].map((id) => decoder.push(id)).join("") + decoder.end();
  if (!continuation && one.decode(ids) !== streamed) throw new Finding("tokens decoded one by one give another text");
  const expected = text.replace(/\p{Surrogate}/gu, "\ufffd").replaceAll(spaceMark, " ");
  if (whole && streamed !== expected) {
    throw new Finding(`a text comes back as another: ${JSON.stringify(expected)} as ${JSON.stringify(streamed)}`);
  }
}

/** Nothing where the vocabulary has neither pieces nor bytes for the text, of which a whole one has all. */
function encode(one: Tokenizer, text: string, continuation: boolean, whole: boolean): Int32Array | undefined {
  try {
    return one.encode(text, { continuation });
  } catch (error) {
    if (whole || (error as { code?: unknown }).code !== "ERR_CRIA_UNSUPPORTED") throw error;
    return undefined;
  }
}

type Piece = readonly [piece: string, score: number, type: number];

function readVocabulary(input: Input, whole: boolean): Vocabulary {
  const pieces: Piece[] = whole ? [...basis] : [];
  for (let count = input.u8(); count > 0; count--) pieces.push(readPiece(input, whole));
  const ids = [undefined, 0, 1, 2, -1, 2 ** 31, pieces.length, 0.5];
  // A whole one's own are sound.
  const id = (sound: number) => (whole ? sound : ids[input.u8() % ids.length]);
  const cut = whole ? 0 : input.u8() >> 6;
  return {
    pieces: pieces.map(([piece]) => piece),
    scores: pieces.map(([, score]) => score).slice(cut === 1 ? 1 : 0),
    types: pieces.map(([, , type]) => type).slice(cut === 2 ? 1 : 0),
    bos: id(1),
    eos: id(2),
    unknown: id(0),
    addBos: true,
    addSpacePrefix: input.u8() % 2 === 0,
  };
}

/** As every LLaMA's vocabulary begins, and U+2581. */
const basis: readonly Piece[] = [
  ["<unk>", 0, pieceTypes.unknown],
  ["<s>", 0, pieceTypes.control],
  ["</s>", 0, pieceTypes.control],
  ...Array.from({ length: 256 }, (_, byte): Piece => {
    return [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0, pieceTypes.byte];
  }),
  [spaceMark, -1e9, pieceTypes.normal],
];

function readPiece(input: Input, whole: boolean): Piece {
  const piece = readString(input, input.u8() % 12);
  const type = input.u8();
  const score = type & 64 ? input.f32() : -(input.u8() % 20);
  // Bytes and control pieces that a vocabulary has twice make another text of it, as they should.
  const types = [pieceTypes.normal, pieceTypes.normal, pieceTypes.unused, pieceTypes.userDefined];
  return [piece, score, whole ? types[type % types.length]! : type % 9];
}

/** A string of so many bytes: UTF-8, Latin letters and spaces, or UTF-16 that need not be well formed. */
function readString(input: Input, length: number): string {
  const bytes = input.take(length + 1);
  const kind = bytes[0] ?? 0;
  const content = bytes.subarray(1);
  if (kind < 64) return content.toString("utf8");
  if (kind < 192) return Array.from(content, (byte) => `${spaceMark} abcd`[byte % 6]).join("");
  return content.toString("utf16le");
}
