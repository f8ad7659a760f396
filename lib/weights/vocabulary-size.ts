import { CriaFileError } from "../errors.js";
import type { Vocabulary } from "./source.js";

/** @throws CriaFileError where the vocabulary of a file is not one for a model of so many tokens */
export function checkSize(path: string, { pieces }: Vocabulary, vocab: number): void {
  if (pieces.length === vocab) return;
  throw new CriaFileError(path, undefined, `must have ${vocab} tokens, as the model has, not ${pieces.length}`);
}
