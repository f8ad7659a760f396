import { pieceTypes, type Vocabulary } from "./source.js";

/**
 * The merges of a byte-level vocabulary that has scores alone, as Llama 3's `tokenizer.model` does: "left right" of
 * each piece, the highest score first. They are the last two parts that its own bytes become before they are the piece.
 *
 * Any two neighbours that make a piece merge by its score. But between them no merge of a higher score was left, so
 * that they are these two parts and no others: the merges say the same. What its bytes never become is no merge's.
 */
export function rankedMerges({ pieces, scores, types }: Pick<Vocabulary, "pieces" | "scores" | "types">): string[] {
  const merging = pieces.flatMap((piece, id): [string, number][] =>
    types[id] === pieceTypes.normal || types[id] === pieceTypes.unused ? [[piece, scores[id]!]] : [],
  );
  const scoreOf = new Map(merging);
  return [...scoreOf]
    .sort(([, a], [, b]) => b - a)
    .flatMap(([piece]) => {
      const parts = lastParts(piece, scoreOf);
      return parts.length === 2 && parts.every((part) => scoreOf.has(part)) ? [parts.join(" ")] : [];
    });
}

/**
 * What the characters of a piece, each a byte, merge to before they are two. Of n characters it looks up fewer than 3 n
 * pairs, and compares n² / 2 scores.
 */
function lastParts(piece: string, scoreOf: ReadonlyMap<string, number>): string[] {
  const parts = Array.from(piece);
  /** Of a part and the next. */
  const scoreAt = (i: number) => scoreOf.get(parts[i]! + parts[i + 1]!) ?? Number.NEGATIVE_INFINITY;
  const scores = Array.from({ length: Math.max(0, parts.length - 1) }, (_, i) => scoreAt(i));
  while (parts.length > 2) {
    const next = highest(scores);
    if (next === undefined) return parts;
    parts.splice(next, 2, parts[next]! + parts[next + 1]!);
    scores.splice(next, 1);
    if (next > 0) scores[next - 1] = scoreAt(next - 1);
    if (next < scores.length) scores[next] = scoreAt(next);
  }
  return parts;
}

/** The place of the highest score, the leftmost of equals; undefined where all are -Infinity. */
function highest(scores: readonly number[]): number | undefined {
  let [best, place]: [number, number | undefined] = [Number.NEGATIVE_INFINITY, undefined];
  for (let i = 0; i < scores.length; i++) {
    if (scores[i]! > best) [best, place] = [scores[i]!, i];
  }
  return place;
}
