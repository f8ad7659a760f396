import type { Vocabulary, WordPattern } from "../../lib/weights/source.js";

/** The bytes in GPT-2's alphabet, in the order of their values. */
export const byteCharacters: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  const own = (b: number) => (b > 0x20 && b < 0x7f) || (b > 0xa0 && b !== 0xad);
  const others = Array.from({ length: byte }, (_, b) => b).filter((b) => !own(b)).length;
  return String.fromCodePoint(own(byte) ? byte : 0x100 + others);
});

/** A text in that alphabet. */
export const inByteAlphabet = (text: string): string =>
  Array.from(Buffer.from(text), (byte) => byteCharacters[byte]!).join("");

/** The merges that BPE learns of some words, the most frequent pair first (Sennrich et al. 2016, algorithm 1). */
export function learnMerges(words: readonly string[], count: number): string[] {
  const texts = words.map((word) => Array.from(inByteAlphabet(word)));
  const merges: string[] = [];
  while (merges.length < count) {
    const counts = new Map<string, number>();
    for (const parts of texts) {
      for (let i = 1; i < parts.length; i++) {
        const pair = `${parts[i - 1]} ${parts[i]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const best = [...counts].sort((a, b) => b[1] - a[1])[0];
    if (best === undefined) break;
    merges.push(best[0]);
    const [left, right] = best[0].split(" ") as [string, string];
    for (const parts of texts) {
      for (let i = 1; i < parts.length; i++) {
        if (parts[i - 1] === left && parts[i] === right) parts.splice(i - 1, 2, left + right);
      }
    }
  }
  return merges;
}

/** The bytes, what the merges make, and Llama 3's control tokens. */
export function byteLevelVocabulary(
  merges: readonly string[],
  wordPattern: WordPattern,
  changes: Partial<Vocabulary> = {},
): Vocabulary {
  const control = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"];
  const merged = [...new Set(merges.map((merge) => merge.replace(" ", "")))];
  const pieces = [...byteCharacters, ...merged, ...control];
  const first = 256 + merged.length;
  return {
    pieces,
    scores: pieces.map(() => 0),
    merges,
    types: pieces.map((_, id) => (id < first ? 1 : 3)),
    bos: first,
    eos: first + 1,
    ends: [first + 2],
    unknown: undefined,
    addBos: true,
    addSpacePrefix: false,
    wordPattern,
    wholeWords: wordPattern === "llama-bpe",
    ...changes,
  };
}
