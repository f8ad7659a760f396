import { CriaFileError } from "../errors.js";
import { pieceTypes, type Vocabulary } from "./source.js";

/** @throws CriaFileError where the vocabulary of a file is not one for a model of so many tokens */
export function checkSize(path: string, { pieces }: Vocabulary, vocab: number): void {
  if (pieces.length === vocab) return;
  throw new CriaFileError(path, undefined, `must have ${vocab} tokens, as the model has, not ${pieces.length}`);
}

/** With an unused piece for each row of the model's embedding that it has none for; it may have more as it is. */
export function padded<T extends Pick<Vocabulary, "pieces" | "scores" | "types">>(vocabulary: T, vocab: number): T {
  const rest = Math.max(0, vocab - vocabulary.pieces.length);
  return {
    ...vocabulary,
    pieces: [...vocabulary.pieces, ...Array<string>(rest).fill("")],
    scores: [...vocabulary.scores, ...Array<number>(rest).fill(0)],
    types: [...vocabulary.types, ...Array<number>(rest).fill(pieceTypes.unused)],
  };
}
