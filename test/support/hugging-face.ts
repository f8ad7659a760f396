import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { Xoshiro128 } from "../../lib/random.js";
import { huggingFaceName } from "../../lib/weights/hugging-face.js";
import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import type { Vocabulary } from "../../lib/weights/source.js";
import type { TemporaryFolder } from "./gguf-writer.js";
import { encodeSafetensors, type SafetensorsSpec } from "./safetensors-writer.js";

/** The shape of {@link smallConfig}. */
export const smallShape = { layers: 2, dim: 32, heads: 4, kvHeads: 2, headDim: 8, ffn: 48, vocab: 300 } as const;

/** A `config.json` of a small LLaMA. */
export const smallConfig: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: 32,
  intermediate_size: 48,
  max_position_embeddings: 64,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 10000.0,
  tie_word_embeddings: false,
  vocab_size: 300,
};

/** The bytes that the tensors' values, multiples of 1/256 below 1/2, have in each type. */
const encoders = {
  F32: (values: Float32Array) => Buffer.from(values.buffer),
  BF16: (values: Float32Array) => {
    const words = new Uint16Array(values.buffer);
    return Buffer.from(Uint16Array.from(values, (_, i) => words[2 * i + 1]!).buffer);
  },
} as const;

/** The tensors of a small model under Hugging Face's names, the same for the same type. Vectors are about 1. */
export function smallTensors(dtype: keyof typeof encoders = "F32", tied = false): Record<string, SafetensorsSpec> {
  const random = Xoshiro128.fromSeed(7);
  return Object.fromEntries(
    llamaTensors(smallShape, tied).map(({ name, kind, rows, cols }) => {
      // Seven bits, which a bfloat16 has room for.
      const values = Float32Array.from({ length: rows * cols }, () => ((random.next() % 128) - 64) / 256);
      const shifted = kind === "vector" ? values.map((x) => 1 + x) : values;
      const shape = kind === "vector" ? [cols] : [rows, cols];
      return [huggingFaceName(name), { dtype, shape, data: encoders[dtype](shifted) }];
    }),
  );
}

/** `tokenizer.json` of LLaMA's kind: `<unk> <s> </s>`, the bytes, spaces, some letters, and two merges. */
export function smallTokenizer(): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const pieces = ["<unk>", "<s>", "</s>", ...bytes, "▁", "a", "b", "▁a", "ab"];
  const special = (id: number) => ({ id, content: pieces[id], normalized: false, special: true });
  return {
    added_tokens: [special(0), special(1), special(2)],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    },
    decoder: null,
    model: {
      type: "BPE",
      unk_token: "<unk>",
      byte_fallback: true,
      fuse_unk: true,
      vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])),
      merges: ["a b", "▁ a"],
    },
  };
}

/** The `tokenizer.json` that transformers makes of a SentencePiece vocabulary: each way to make a piece of two is a merge. */
export function tokenizerJsonOf({ pieces, scores, types }: Vocabulary): Record<string, unknown> {
  const ids = new Map(pieces.map((piece, id) => [piece, id]));
  const merges = pieces.flatMap((piece, id) => {
    const letters = Array.from(piece);
    const ways = letters
      .map((_, i) => [letters.slice(0, i).join(""), letters.slice(i).join("")] as const)
      .filter(([left, right]) => ids.has(left) && ids.has(right));
    return ways
      .sort((a, b) => ids.get(a[0])! - ids.get(b[0])! || ids.get(a[1])! - ids.get(b[1])!)
      .map((pair) => ({ pair, score: scores[id]! }));
  });
  const small = smallTokenizer();
  return {
    ...small,
    added_tokens: [0, 1, 2].map((id) => ({ id, content: pieces[id], normalized: false, special: types[id] !== 1 })),
    model: {
      ...(small.model as object),
      vocab: Object.fromEntries(ids),
      merges: merges.sort((a, b) => b.score - a.score).map(({ pair }) => pair),
    },
  };
}

/** What a folder holds: objects are JSON, tensors a safetensors file, and what is undefined is not there. */
export type FolderFiles = Record<string, object | string | undefined>;

/** Writes a small model with changes: sound unless they spoil it. Returns the folder. */
export async function writeModel(
  { path }: TemporaryFolder,
  changes: {
    config?: Record<string, unknown>;
    tokenizer?: Record<string, unknown>;
    tensors?: Record<string, SafetensorsSpec>;
    files?: FolderFiles;
  } = {},
): Promise<string> {
  const { config = {}, tokenizer = {}, tensors = smallTensors(), files = {} } = changes;
  const all: FolderFiles = {
    "config.json": { ...smallConfig, ...config },
    "tokenizer.json": { ...smallTokenizer(), ...tokenizer },
    "model.safetensors": encodeSafetensors({ tensors, metadata: { format: "pt" } }),
    ...files,
  };
  for (const [name, content] of Object.entries(all)) {
    if (content === undefined) continue;
    const bytes = typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content);
    await writeFile(join(path, name), bytes);
  }
  return path;
}
