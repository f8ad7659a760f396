import type { Device } from "../device.js";
import type { GatedKeys, LlamaWeights, LowRank } from "../llama.js";
import { native, type TensorHandle } from "../native.js";
import type { LlamaConfig } from "../weights/source.js";
import type { GatedPrompt } from "./adapter.js";

/** What makes queries, keys and values of a layer's input: the model's matrices, and what adapters add to them. */
export interface Projections {
  readonly qkv: readonly TensorHandle[];
  /** Of those whose columns are not their inputs in order: which input each is, -1 for none. */
  readonly columns: LlamaWeights["columns"];
  readonly beside: LowRank | undefined;
}

/**
 * The keys and values of a layer's prefix, which are the same for every token: the products of its prompt with the
 * model's own matrices. Keys of a prefix are not turned, for they have no position (Zhang et al. 2023, §3.2).
 *
 * @param vector makes a vector on the device
 */
export function packPrefix(
  device: Device,
  { dim, heads, kvHeads, headDim }: LlamaConfig,
  projections: Projections,
  prompt: (GatedPrompt & { readonly scale: number }) | undefined,
  vector: (floats: Float32Array) => TensorHandle,
): GatedKeys | undefined {
  if (prompt === undefined) return undefined;
  const length = prompt.prompt.length / dim;
  const all = project(device, projections, prompt.prompt, length);
  const size = kvHeads * headDim;
  const columns = (first: number) => {
    const out = new Float32Array(length * size);
    const width = all.length / length;
    for (let i = 0; i < length; i++) out.set(all.subarray(i * width + first, i * width + first + size), i * size);
    return out;
  };
  const queries = heads * headDim;
  return {
    keys: vector(columns(queries)),
    values: vector(columns(queries + size)),
    gates: vector(prompt.gates.map((gate) => prompt.scale * gate)),
  };
}

/** [length, queries | keys | values] of `length` rows. */
function project(
  { handle }: Device,
  { qkv, columns, beside }: Projections,
  rows: Float32Array,
  length: number,
): Float32Array {
  const times = (matrix: TensorHandle, x: Float32Array) => {
    const out = new Float32Array(length * native.tensorRows(matrix));
    native.matmul(handle, matrix, x, out);
    return out;
  };
  const parts = qkv.map((matrix) => times(matrix, gathered(rows, length, columns?.get(matrix))));
  const width = parts.reduce((sum, part) => sum + part.length, 0) / length;
  const all = beside === undefined ? new Float32Array(length * width) : times(beside.b, times(beside.a, rows));
  let first = 0;
  for (const part of parts) {
    const size = part.length / length;
    for (let i = 0; i < part.length; i++) all[Math.floor(i / size) * width + first + (i % size)]! += part[i]!;
    first += size;
  }
  return all;
}

/** Each row's values in the order of a matrix's columns. */
function gathered(rows: Float32Array, length: number, columns: Int32Array | undefined): Float32Array {
  if (columns === undefined) return rows;
  const width = rows.length / length;
  const out = new Float32Array(length * columns.length);
  for (let i = 0; i < length; i++) {
    columns.forEach((input, column) => {
      if (input >= 0) out[i * columns.length + column] = rows[i * width + input]!;
    });
  }
  return out;
}
