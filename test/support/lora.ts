import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { Xoshiro128 } from "../../lib/random.js";
import { tinyModel } from "../../lib/tiny.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { decodeRow, type WeightRows } from "./float64.js";
import { f32, type GgufFile, string, type TemporaryFolder, type TensorSpec } from "./gguf-writer.js";
import { encodeSafetensors, type SafetensorsFile } from "./safetensors-writer.js";

/** What an adapter adds to a matrix: scale · B A, in the model's order of rows. */
export interface KnownUpdate {
  readonly rank: number;
  readonly scale: number;
  /** [outputs, rank] */
  readonly b: Float32Array;
  /** [rank, inputs] */
  readonly a: Float32Array;
}

export type KnownUpdates = ReadonlyMap<string, KnownUpdate>;

/**
 * Updates of known weights for the matrices whose names match, about a quarter as large as what they are added to. Ranks
 * differ from matrix to matrix.
 */
export function knownUpdates(
  config: LlamaConfig,
  targets: RegExp,
  { seed, alpha = 3, rank = 2 }: { seed: number; alpha?: number; rank?: number },
): KnownUpdates {
  const random = Xoshiro128.fromSeed(seed);
  const floats = (length: number, largest: number) =>
    Float32Array.from({ length }, () => (random.next() / 2 ** 31 - 1) * largest);
  const updates = new Map<string, KnownUpdate>();
  for (const { name, kind, rows, cols } of llamaTensors(config, false)) {
    if (kind === "vector" || !targets.test(name)) continue;
    const r = rank + (updates.size % 3);
    updates.set(name, {
      rank: r,
      scale: alpha / r,
      b: floats(rows * r, 0.5),
      a: floats(r * cols, 0.5 / Math.sqrt(cols)),
    });
  }
  return updates;
}

/** An adapter for the model that comes with cria, written to a file. */
export async function tinyAdapter(folder: TemporaryFolder): Promise<string> {
  const { config } = await readLlama(tinyModel);
  return await folder.write("adapter.gguf", loraGguf(knownUpdates(config, /attn_[qv]/, { seed: 1 })));
}

/** The adapter as llama.cpp's convert_lora_to_gguf.py writes it, whose alpha is the same for all. */
export function loraGguf(updates: KnownUpdates, alpha = 3): GgufFile {
  const tensors = [...updates].flatMap(([name, { rank, a, b }]): TensorSpec[] => {
    const [rows, cols] = [b.length / rank, a.length / rank];
    const tensor = (factor: string, shape: [number, number], floats: Float32Array): TensorSpec => ({
      name: `${name}.${factor}`,
      shape,
      type: "f32",
      data: bytesOf(floats),
    });
    // Tokens take rows: of the embedding A and B have changed places, each turned.
    return name === "token_embd.weight"
      ? [tensor("lora_a", [rank, rows], b), tensor("lora_b", [rank, cols], transposed(a, rank))]
      : [tensor("lora_a", [cols, rank], a), tensor("lora_b", [rank, rows], b)];
  });
  return {
    metadata: {
      "general.type": string("adapter"),
      "general.architecture": string("llama"),
      "adapter.type": string("lora"),
      "adapter.lora.alpha": f32(alpha),
    },
    tensors,
  };
}

/** Where what PEFT calls a module's matrices stands in GGUF. */
const modules: Readonly<Record<string, string>> = {
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/** The name that a matrix's module has in a model of Hugging Face's. */
export function moduleOf(name: string): string {
  if (name === "output.weight") return "lm_head";
  if (name === "token_embd.weight") return "model.embed_tokens";
  const [, layer, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name)!;
  return `model.layers.${layer}.${modules[part!]}`;
}

/**
 * The adapter as PEFT saves it. Its ranks differ, which only `rank_pattern` can say.
 *
 * @param changes other keys of adapter_config.json
 */
export function peftFiles(
  { headDim, rope }: LlamaConfig,
  updates: KnownUpdates,
  changes: Record<string, unknown> = {},
): { config: Record<string, unknown>; tensors: SafetensorsFile["tensors"] } {
  const tensors: SafetensorsFile["tensors"] = {};
  const ranks: Record<string, number> = {};
  let [alpha, r] = [0, 0];
  for (const [name, { rank, scale, a, b }] of updates) {
    const module = moduleOf(name);
    const [rows, cols] = [b.length / rank, a.length / rank];
    const put = (tensor: string, shape: [number, number], floats: Float32Array) => {
      tensors[`base_model.model.${module}.${tensor}`] = { dtype: "F32", shape, data: bytesOf(floats) };
    };
    const turns = /attn_[qk]/.test(name) && rope.pairing === "adjacent";
    if (name === "token_embd.weight") {
      put("lora_embedding_A", [rank, rows], transposed(b, rows));
      put("lora_embedding_B", [cols, rank], transposed(a, rank));
    } else {
      put("lora_A.weight", [rank, cols], a);
      put("lora_B.weight", [rows, rank], turns ? halved(b, rank, headDim) : b);
    }
    ranks[module] = rank;
    r = rank;
    alpha = scale * rank;
  }
  const config = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    r,
    lora_alpha: alpha,
    rank_pattern: ranks,
    bias: "none",
  };
  return {
    config: { ...config, fan_in_fan_out: false, modules_to_save: null, target_modules: ["q_proj"], ...changes },
    tensors,
  };
}

/** Rows in the order of Hugging Face's pairing: of each head's first the even ones, then the odd ones. */
function halved(b: Float32Array, rank: number, headDim: number): Float32Array {
  const rows = Array.from({ length: b.length / rank }, (_, row) => b.subarray(row * rank, (row + 1) * rank));
  const out: number[] = [];
  for (let head = 0; head < rows.length; head += headDim) {
    for (const parity of [0, 1]) {
      for (let i = parity; i < headDim; i += 2) out.push(...rows[head + i]!);
    }
  }
  return Float32Array.from(out);
}

/** Writes such a folder, and returns its path. */
export async function writePeft(
  folder: TemporaryFolder,
  name: string,
  { config, tensors }: ReturnType<typeof peftFiles>,
): Promise<string> {
  await mkdir(join(folder.path, name), { recursive: true });
  await folder.write(join(name, "adapter_config.json"), Buffer.from(JSON.stringify(config)));
  await folder.write(join(name, "adapter_model.safetensors"), encodeSafetensors({ tensors }));
  return join(folder.path, name);
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** A matrix of so many rows, turned. */
export function transposed(matrix: Float32Array, rows: number): Float32Array {
  const cols = matrix.length / rows;
  return matrix.map((_, i) => matrix[(i % rows) * cols + Math.floor(i / rows)]!);
}

/** The weights with updates merged into them, in float64 but for a last rounding to float32. */
export function mergedRows(
  base: WeightRows,
  adapters: readonly (readonly [updates: KnownUpdates, scale: number])[],
): WeightRows {
  const tensors = new Map(base.tensors);
  // An output of its own, where the embedding stood in for it.
  const output = tensors.get("output.weight") ?? { ...tensors.get("token_embd.weight")!, name: "output.weight" };
  tensors.set("output.weight", output);
  const source = (name: string) => (base.tensors.has(name) ? name : "token_embd.weight");
  const matrices = [...tensors].filter(([, { rows }]) => rows > 1).map(([name]) => name);
  for (const name of matrices) tensors.set(name, { ...tensors.get(name)!, type: "f32" });
  return {
    tensors,
    read(name, row, rows) {
      if (tensors.get(name)!.rows === 1) return base.read(name, row, rows);
      const { cols } = tensors.get(name)!;
      const out = new Float32Array(rows * cols);
      for (let i = 0; i < rows; i++) {
        const sum = decodeRow(base, source(name), row + i);
        for (const [updates, scale] of adapters) {
          const update = updates.get(name);
          if (update !== undefined) addRow(sum, update, row + i, scale);
        }
        out.set(sum, i * cols);
      }
      return bytesOf(out);
    },
  };
}

function addRow(sum: Float64Array, { rank, scale: own, a, b }: KnownUpdate, row: number, scale: number): void {
  for (let r = 0; r < rank; r++) {
    const factor = scale * own * b[row * rank + r]!;
    for (let k = 0; k < sum.length; k++) sum[k]! += factor * a[r * sum.length + k]!;
  }
}
