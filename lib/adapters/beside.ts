/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "../device.js";
import type { LlamaAdapters, LlamaWeights, LowRank } from "../llama.js";
import { native, type TensorHandle } from "../native.js";
import type { LlamaConfig } from "../weights/source.js";
import type { AdapterParts, LowRankUpdate } from "./adapter.js";
import { packPrefix } from "./prefix.js";
import { blockStacks, embeddingStack, outputStack, rowsOf, type Stack } from "./stacks.js";
import { transposed } from "./transposed.js";

/** What an adapter adds, and how much of it. */
export interface ScaledParts extends AdapterParts {
  readonly scale: number;
}

/** Adapters on a device. A program that was recorded with them keeps them: they may be disposed of then. */
export interface PackedAdapters extends LlamaAdapters, Disposable {}

/**
 * Puts what adapters add beside a model's weights. For matrices that share an input, such as those of queries, keys and
 * values, and for all adapters together it is one pair, whose products with a vector are two:
 *
 *     a   A of q, first adapter      b   s B of q        0          …     rows of q
 *         A of k, first adapter              0       s B of k       …     rows of k
 *         …                              columns: the rows of a
 *
 * The zeros of b cost little: an adapter of rank 16 for q, k and v has a b of 48 columns, beside the thousands of W.
 * What all take together packedRoom tells (room.ts).
 */
export async function packAdapters(
  device: Device,
  config: LlamaConfig,
  weights: LlamaWeights,
  adapters: readonly ScaledParts[],
): Promise<PackedAdapters> {
  const { layers, dim, vocab } = config;
  const tensors: TensorHandle[] = [];
  const dispose = () => tensors.forEach(native.free);
  const matrix = (rows: number, cols: number, floats: Float32Array): TensorHandle => {
    const handle = native.matrixCreate(device.handle, "f32", rows, cols);
    tensors.push(handle);
    native.tensorPack(handle, 0, rows, bytesOf(floats));
    return handle;
  };
  const vector = (floats: Float32Array): TensorHandle => {
    const handle = native.vectorCreate(device.handle, "f32", floats.length);
    tensors.push(handle);
    native.tensorPack(handle, 0, 1, bytesOf(floats));
    return handle;
  };
  /** Of a layer, at most one adapter's. */
  const prompts = (layer: number) => {
    const adapter = adapters.find(({ prefix }) => prefix.has(layer));
    return adapter && { ...adapter.prefix.get(layer)!, scale: adapter.scale };
  };
  /** What is beside matrices that share an input. */
  const pair = async (stack: Stack) => {
    const parts = partsOf(adapters, stack.targets);
    if (parts.length === 0) return undefined;
    await new Promise((resolve) => setImmediate(resolve)); // others have their turn
    const rank = parts.reduce((sum, { update }) => sum + update.rank, 0);
    const rows = rowsOf(stack);
    return { rank, a: matrix(rank, stack.inputs, stackedA(parts)), b: matrix(rows, rank, stackedB(parts, rows, rank)) };
  };

  try {
    const blocks: LlamaAdapters["blocks"][number][] = [];
    for (let i = 0; i < layers; i++) {
      const stacks = blockStacks(config, i);
      const qkv = await pair(stacks.qkv);
      blocks.push({
        qkv,
        prefix: packPrefix(
          device,
          config,
          { qkv: weights.blocks[i]!.qkv, columns: weights.columns, beside: qkv },
          prompts(i),
          vector,
        ),
        attentionOut: await pair(stacks.attentionOut),
        gateUp: await pair(stacks.gateUp),
        down: await pair(stacks.down),
      });
    }
    const embedding = embeddingPair(partsOf(adapters, embeddingStack(config).targets), vocab, dim, matrix);
    const output = await pair(outputStack(config));
    return { embedding, blocks, output, [Symbol.dispose]: dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** One adapter's update of one matrix, and where it stands among those that share an input. */
export interface Part {
  readonly update: LowRankUpdate;
  readonly scale: number;
  /** Of the matrix among those stacked. */
  readonly row: number;
}

export function partsOf(adapters: readonly ScaledParts[], targets: readonly (readonly [string, number])[]): Part[] {
  const parts: Part[] = [];
  let row = 0;
  for (const [name, rows] of targets) {
    for (const { updates, scale } of adapters) {
      const update = updates.get(name);
      if (update !== undefined) parts.push({ update, scale: scale * update.scale, row });
    }
    row += rows;
  }
  return parts;
}

export function stackedA(parts: readonly Part[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { update }) => sum + update.a.length, 0));
  let at = 0;
  for (const { update } of parts) {
    all.set(update.a, at);
    at += update.a.length;
  }
  return all;
}

/** [rows, rank]: each part's s B at its rows, and at the columns that its A has as rows. */
export function stackedB(parts: readonly Part[], rows: number, rank: number): Float32Array {
  const all = new Float32Array(rows * rank);
  let column = 0;
  for (const { update, scale, row } of parts) {
    for (let i = 0; i < update.b.length; i++) {
      const to = (row + Math.floor(i / update.rank)) * rank + column + (i % update.rank);
      all[to] = scale * update.b[i]!;
    }
    column += update.rank;
  }
  return all;
}

/** A token takes its row of s B, [vocabulary, rank], and A turned, [dim, rank], makes of it what is added. */
function embeddingPair(
  parts: readonly Part[],
  vocab: number,
  dim: number,
  matrix: (rows: number, cols: number, floats: Float32Array) => TensorHandle,
): LowRank | undefined {
  if (parts.length === 0) return undefined;
  const rank = parts.reduce((sum, { update }) => sum + update.rank, 0);
  return {
    rank,
    a: matrix(vocab, rank, stackedB(parts, vocab, rank)),
    b: matrix(dim, rank, transposed(stackedA(parts), rank)),
  };
}

export const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  new Uint8Array(buffer, byteOffset, byteLength);
