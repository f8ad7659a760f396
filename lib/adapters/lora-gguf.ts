import { CriaFileError, show } from "../errors.js";
import { type Gguf, type GgufTensor, readGguf } from "../weights/gguf.js";
import type { GgufMetadata } from "../weights/gguf-metadata.js";
import { type LoraFile, type LoraPair, rankOf, turned, upright } from "./lora-file.js";

/**
 * Reads the index of a LoRA adapter from a GGUF file, as llama.cpp's convert_lora_to_gguf.py writes it: for a tensor
 * `blk.0.attn_q.weight` of the model a `blk.0.attn_q.weight.lora_a`, [rank, inputs], and a `…lora_b`, [outputs, rank].
 * Of the embedding, which tokens take rows of, lora_a is [vocabulary, rank] and lora_b [dim, rank].
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that is damaged or lacks a key or a tensor, ERR_CRIA_UNSUPPORTED for a
 *   sound one that holds something else
 */
export async function readLoraGguf(path: string): Promise<LoraFile> {
  const file = await readGguf(path);
  const alpha = readKeys(file.metadata);
  return { kind: "lora", path, format: `GGUF v${file.version}`, pairing: "adjacent", pairs: readPairs(file, alpha) };
}

/** Returns alpha; as in llama.cpp, 0 or none is the rank of each pair, whose scale is then 1. */
function readKeys(metadata: GgufMetadata): number {
  requireAdapter(metadata);
  requireKey(metadata, "general.architecture", "llama");
  requireKey(metadata, "adapter.type", "lora");
  if (metadata.entries.has("adapter.alora.invocation_tokens")) {
    const problem = "must be absent, for cria has no adapters that begin within a text";
    throw metadata.error("adapter.alora.invocation_tokens", problem, "ERR_CRIA_UNSUPPORTED");
  }
  return metadata.float("adapter.lora.alpha", "a finite f32", Number.isFinite, 0);
}

/** @throws CriaFileError for another file of GGUF's, of which most are models, and older ones do not say so */
function requireAdapter(metadata: GgufMetadata): void {
  const type = metadata.string("general.type", undefined);
  if (type === "adapter") return;
  const found = type === undefined ? "but is missing" : `not ${show(type)}`;
  const what = type === undefined || type === "model" ? ": this is a model, to be given as one" : "";
  throw metadata.error("general.type", `must be "adapter", ${found}${what}`, "ERR_CRIA_UNSUPPORTED");
}

function requireKey(metadata: GgufMetadata, key: string, wanted: string): void {
  const found = metadata.string(key);
  if (found === wanted) return;
  throw metadata.error(key, `must be ${show(wanted)}, not ${show(found)}`, "ERR_CRIA_UNSUPPORTED");
}

function readPairs({ path, tensors }: Gguf, alpha: number): LoraPair[] {
  const targets = new Set([...tensors.values()].map(targetOf));
  if (targets.size === 0) throw new CriaFileError(path, undefined, "must have tensors, but has none");
  return [...targets].map((target) => {
    const [a, b] = ["lora_a", "lora_b"].map((factor) => {
      const tensor = tensors.get(`${target}.${factor}`);
      if (tensor !== undefined) return checked(tensor);
      throw new CriaFileError(path, `${target}.${factor}`, "must be there beside its other half, but is missing");
    }) as [GgufTensor, GgufTensor];
    const pair = target === "token_embd.weight" ? { a: turned(b), b: upright(a) } : { a: upright(a), b: upright(b) };
    return { target, ...pair, scale: alpha === 0 ? 1 : alpha / rankOf(pair) };
  });
}

/** The tensor of the model that one of the adapter's is for. */
function targetOf({ file, name }: GgufTensor): string {
  const [, target] = /^(.*)\.lora_[ab]$/s.exec(name) ?? [];
  if (target !== undefined) return target;
  throw new CriaFileError(file, name, "is not a tensor of a LoRA that cria applies", "ERR_CRIA_UNSUPPORTED");
}

function checked(tensor: GgufTensor): GgufTensor {
  if (tensor.shape.length === 2) return tensor;
  throw new CriaFileError(tensor.file, tensor.name, `must have two dimensions, not ${tensor.shape.length}`);
}
