import type { Vocabulary } from "../../../lib/weights/source.js";

/** What Code Llama's vocabulary has after Llama 2's 32,000 pieces, at the places that its card gives. */
const pieces = Array.from({ length: 16 }, (_, i) => `<extra ${i}>`);
for (const [id, name] of [
  [7, "▁<PRE>"],
  [8, "▁<SUF>"],
  [9, "▁<MID>"],
  [10, "▁<EOT>"],
  [15, "<step>"],
] as const) {
  pieces[id] = name;
}

/** A vocabulary with Code Llama's control pieces after its own. */
export const withCodeLlama = (vocabulary: Vocabulary): Vocabulary => ({
  ...vocabulary,
  pieces: [...vocabulary.pieces, ...pieces],
  scores: [...vocabulary.scores, ...pieces.map(() => 0)],
  types: [...vocabulary.types, ...pieces.map(() => 3)],
});
