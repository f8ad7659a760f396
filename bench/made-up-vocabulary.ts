import { array, string, u32, type Value } from "../lib/weights/gguf-values.js";
import { pieceTypes } from "../lib/weights/source.js";

/**
 * The keys of a SentencePiece vocabulary of `count` pieces: unknown, BOS, EOS, the 256 bytes, the space, and then words
 * that no text has by chance.
 */
export function vocabularyKeys(count: number): Record<string, Value> {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const words = Array.from({ length: Math.max(0, count - 260) }, (_, i) => `▁w${i}`);
  const pieces = ["<unk>", "<s>", "</s>", ...bytes, "▁", ...words].slice(0, count);
  const { normal, unknown, control, byte } = pieceTypes;
  const types = pieces.map((_, id) => (id === 0 ? unknown : id < 3 ? control : id < 259 ? byte : normal));
  return {
    "tokenizer.ggml.model": string("llama"),
    "tokenizer.ggml.tokens": array("string", pieces),
    "tokenizer.ggml.scores": array(
      "f32",
      pieces.map((_, id) => (id < 259 ? 0 : 258 - id)),
    ),
    "tokenizer.ggml.token_type": array("i32", types),
    "tokenizer.ggml.bos_token_id": u32(1),
    "tokenizer.ggml.eos_token_id": u32(2),
    "tokenizer.ggml.unknown_token_id": u32(0),
  };
}
