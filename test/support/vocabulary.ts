import type { Vocabulary } from "../../lib/weights/source.js";

/** A piece, its score and its type. */
export type Entry = readonly [piece: string, score: number, type: number];

/** The first token that is none of {@link smallVocabulary}'s own. */
export const firstEntry = 3 + 256;

/** A vocabulary as Llama's begins, `<unk> <s> </s>` and the 256 bytes, and then `entries`. */
export function smallVocabulary(entries: readonly Entry[], changes: Partial<Vocabulary> = {}): Vocabulary {
  const bytes = Array.from({ length: 256 }, (_, byte): Entry => [`<0x${hex(byte)}>`, 0, 6]);
  const all: Entry[] = [["<unk>", 0, 2], ["<s>", 0, 3], ["</s>", 0, 3], ...bytes, ...entries];
  return {
    pieces: all.map(([piece]) => piece),
    scores: all.map(([, score]) => score),
    types: all.map(([, , type]) => type),
    bos: 1,
    eos: 2,
    unknown: 0,
    addBos: true,
    addSpacePrefix: true,
    ...changes,
  };
}

/** The tokens of `bytes` in a {@link smallVocabulary}. */
export const byteTokens = (...bytes: number[]): number[] => bytes.map((byte) => 3 + byte);

const hex = (byte: number): string => byte.toString(16).toUpperCase().padStart(2, "0");
