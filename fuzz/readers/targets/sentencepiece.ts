import { Tokenizer } from "../../../lib/index.js";
import { readSentencePiece } from "../../../lib/weights/sentencepiece.js";
import type { Target } from "../target.js";

/** SentencePiece models: what is read encodes and decodes. */
export const sentencepiece: Target = {
  dictionary: ["<0x0A>", "<0x-1>", "<s>", "\u2581", "\u2581a", "__proto__", "\ufeff", "\u0012\u0002\u0018\u0002"],
  async run(_, path) {
    const tokenizer = new Tokenizer(await readSentencePiece(path));
    tokenizer.decode(Int32Array.from({ length: Math.min(tokenizer.size, 50) }, (_, id) => id));
    tokenizer.decode(tokenizer.encode("a \u2581 <s>\n\u00e9"));
  },
};
