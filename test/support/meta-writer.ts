import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { WeightType } from "../../lib/weights/source.js";
import type { GgufFile, TensorSpec } from "./gguf-writer.js";
import { toHalf } from "./half.js";
import { sentencePiece } from "./sentencepiece-writer.js";
import { encodeTorch, type TorchSpec, type TorchType } from "./torch-writer.js";

/** By the names of GGUF, within a layer or outside of it, those of Meta and what a part has of the tensor. */
const names: Readonly<Record<string, readonly [meta: string, cut: "rows" | "columns" | "whole"]>> = {
  attn_norm: ["attention_norm", "whole"],
  attn_q: ["attention.wq", "rows"],
  attn_k: ["attention.wk", "rows"],
  attn_v: ["attention.wv", "rows"],
  attn_output: ["attention.wo", "columns"],
  ffn_norm: ["ffn_norm", "whole"],
  ffn_gate: ["feed_forward.w1", "rows"],
  ffn_up: ["feed_forward.w3", "rows"],
  ffn_down: ["feed_forward.w2", "columns"],
  token_embd: ["tok_embeddings", "columns"],
  output_norm: ["norm", "whole"],
  output: ["output", "rows"],
};

const widths: Readonly<Record<TorchType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** A model in f32 with all its tensors, vectors too, rounded to another type. */
export function castTo(type: TorchType, file: GgufFile): GgufFile {
  return { ...file, tensors: file.tensors.map((tensor) => ({ ...tensor, type, data: cast(type, tensor) })) };
}

function cast(type: TorchType, { data }: TensorSpec): Uint8Array {
  if (type === "f32") return data!;
  const copy = new Uint8Array(data!).buffer;
  const bits = type === "f16" ? Uint16Array.from(new Float32Array(copy), toHalf) : upperHalves(new Uint32Array(copy));
  return new Uint8Array(bits.buffer);
}

const upperHalves = (words: Uint32Array) => Uint16Array.from(words, (word) => word >>> 16);

export interface PartsOptions {
  /** Meta's Llama 3 cuts the embedding's rows. */
  embedding?: "rows" | "columns";
  /** With `rope.freqs`, as the first LLaMA's files have it. */
  freqs?: boolean;
}

/** The tensors of each of a model's parts, as Meta has them. */
export function partsOf(
  file: GgufFile,
  count: number,
  { embedding = "columns", freqs = false }: PartsOptions = {},
): TorchSpec[][] {
  return Array.from({ length: count }, (_, part) => [
    ...file.tensors.map((tensor) => shard(tensor, part, count, embedding)),
    ...(freqs ? [{ name: "rope.freqs", type: "f32", shape: [8], data: Buffer.alloc(32) }] : []),
  ]);
}

function shard(
  { name, shape, type, data }: TensorSpec,
  part: number,
  count: number,
  embedding: "rows" | "columns",
): TorchSpec {
  const [, layer, tensor] = /^(?:blk\.(\d+)\.)?(\w+)\.weight$/.exec(name)!;
  const [meta, usual] = names[tensor!]!;
  const cut = tensor === "token_embd" ? embedding : usual;
  const [cols, rows = 1] = shape.map(Number) as [number, number?];
  const rowBytes = cols * widths[type as TorchType];
  const pieces = Array.from({ length: rows }, (_, row) =>
    Buffer.from(data!.buffer, data!.byteOffset + row * rowBytes, rowBytes),
  );
  const named = {
    name: `${layer === undefined ? "" : `layers.${layer}.`}${meta}.weight`,
    type: type as WeightType & TorchType,
  };
  if (cut === "whole") return { ...named, shape: [cols], data: Buffer.concat(pieces) };
  if (cut === "rows") {
    const own = pieces.slice((part * rows) / count, ((part + 1) * rows) / count);
    return { ...named, shape: [rows / count, cols], data: Buffer.concat(own) };
  }
  const [begin, end] = [(part * rowBytes) / count, ((part + 1) * rowBytes) / count];
  return { ...named, shape: [rows, cols / count], data: Buffer.concat(pieces.map((row) => row.subarray(begin, end))) };
}

/** Writes a model of Meta's into a folder, which it makes: `params.json`, the parts and the tokenizer. */
export async function writeMeta(
  folder: string,
  params: Readonly<Record<string, unknown>>,
  parts: readonly (readonly TorchSpec[])[],
  pieces: number,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "params.json"), JSON.stringify(params));
  for (const [i, tensors] of parts.entries()) {
    await writeFile(join(folder, `consolidated.${String(i).padStart(2, "0")}.pth`), encodeTorch(tensors));
  }
  await writeFile(join(folder, "tokenizer.model"), tokenizerModel(pieces));
  await writeFile(join(folder, "checklist.chk"), "");
}

/** The vocabulary of `llamaFile`, as a SentencePiece model. */
export function tokenizerModel(pieces: number): Buffer {
  return sentencePiece(Array.from({ length: pieces - 259 }, (_, i) => [i === 0 ? "▁" : `▁w${i - 1}`, -1 - i]));
}
