/// <reference lib="esnext.disposable" preserve="true" />
import { createHash } from "node:crypto";

import { showBytes } from "../bytes.js";
import type { Device } from "../device.js";
import { CriaError } from "../errors.js";
import { native } from "../native.js";
import type { FileTensor, LlamaConfig } from "../weights/source.js";
import { naming } from "../weights/store.js";
import { checkFits, type Factor, type LoraFile, type LoraPair, rankOf } from "./lora-file.js";
import { transposed } from "./transposed.js";

/** What an adapter adds to one matrix W of the model: W + scale · B A, the rows of B in the model's order. */
export interface LowRankUpdate {
  readonly rank: number;
  readonly scale: number;
  /** [outputs, rank] */
  readonly b: Float32Array;
  /** [rank, inputs] */
  readonly a: Float32Array;
}

/**
 * A LoRA adapter in memory, for one model: `model.loadAdapter` makes it. It works where it is among those that
 * `model.setAdapters` sets.
 */
export class Adapter {
  readonly path: string;
  /** What was recognised: "PEFT", or "GGUF v3". */
  readonly format: string;
  /** The matrices of the model that it changes, under GGUF's names. */
  readonly targets: readonly string[];
  /** The memory that it takes. Set, it takes about as much on the device. */
  readonly bytes: number;
  /** SHA-256 of all that it changes a model by. */
  readonly fingerprint: Uint8Array;
  #updates: ReadonlyMap<string, LowRankUpdate> | undefined;

  /** {@link readAdapter} makes it. */
  constructor({ path, format }: LoraFile, updates: ReadonlyMap<string, LowRankUpdate>) {
    this.path = path;
    this.format = format;
    this.targets = [...updates.keys()];
    this.bytes = [...updates.values()].reduce((sum, { a, b }) => sum + a.byteLength + b.byteLength, 0);
    this.fingerprint = fingerprintOf(updates);
    this.#updates = updates;
  }

  /** By the name of the matrix. @throws CriaError ERR_CRIA_DISPOSED after `dispose` */
  get updates(): ReadonlyMap<string, LowRankUpdate> {
    if (this.#updates === undefined) throw new CriaError("ERR_CRIA_DISPOSED", "adapter: was disposed");
    return this.#updates;
  }

  /** Gives its memory back. Where it is set it goes on working until others are. */
  dispose(): void {
    this.#updates = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The memory of an adapter's matrices, in f32. */
export const loraBytes = ({ pairs }: LoraFile): number =>
  pairs.reduce((sum, { a, b }) => sum + 4 * (elements(a) + elements(b)), 0);

const elements = ({ tensor: { rows, cols } }: Factor) => rows * cols;

/**
 * Reads an adapter's matrices, for a model of that shape.
 *
 * They come into JavaScript, unlike a model's: those of one that changes each matrix of a 7B by a rank of 16 are 160 MB,
 * and where adapters change they are put together anew.
 *
 * @throws CriaFileError where it is for another model, or can no longer be read
 * @throws CriaError ERR_CRIA_MEMORY where the machine has not the memory
 */
export async function readAdapter(file: LoraFile, config: LlamaConfig, device: Device): Promise<Adapter> {
  checkFits(file, config);
  checkRoom(file, device);
  const updates = new Map<string, LowRankUpdate>();
  for (const pair of file.pairs) updates.set(pair.target, await readUpdate(pair, file, config, device));
  return new Adapter(file, updates);
}

/** Twice: what is set stands on the device beside what it was made from. */
function checkRoom(file: LoraFile, { info }: Device): void {
  const needed = 2 * loraBytes(file);
  if (needed <= info.availableBytes) return;
  const problem = `must fit the ${showBytes(info.availableBytes)} of memory available, but it takes ${showBytes(needed)}`;
  throw new CriaError("ERR_CRIA_MEMORY", `${file.path}: ${problem}`);
}

async function readUpdate(
  pair: LoraPair,
  { pairing }: LoraFile,
  config: LlamaConfig,
  device: Device,
): Promise<LowRankUpdate> {
  const rank = rankOf(pair);
  const a = await readFactor(pair.a, device);
  const b = await readFactor(pair.b, device);
  const turns = /\.attn_[qk]\.weight$/.test(pair.target) && pairing !== config.rope.pairing;
  return { rank, scale: pair.scale, a, b: turns ? repaired(b, rank, config) : b };
}

/** Its elements as they are used, row by row. */
async function readFactor({ tensor, transposed: turned }: Factor, device: Device): Promise<Float32Array> {
  const floats = await readFloats(tensor, device);
  return turned ? transposed(floats, tensor.rows) : floats;
}

/** Any type's weights as f32: the device knows them all, and gives those of a row where a token asks for it. */
async function readFloats({ name, type, rows, cols, file, offset }: FileTensor, device: Device): Promise<Float32Array> {
  const matrix = native.matrixCreate(device.handle, type, rows, cols);
  try {
    await device.queue(() => native.tensorPackFile(matrix, 0, rows, file, offset));
    const floats = new Float32Array(rows * cols);
    native.embed(
      device.handle,
      matrix,
      Int32Array.from({ length: rows }, (_, row) => row),
      floats,
    );
    return floats;
  } catch (error) {
    throw naming(error, file, name);
  } finally {
    native.free(matrix);
  }
}

/**
 * The rows of B for queries or keys in the model's order. Of the dimensions of each head that turn, pair i is rows
 * (2i, 2i + 1) where pairs are adjacent, and (i, i + dim / 2) where they are halves.
 */
function repaired(b: Float32Array, rank: number, { headDim, rope }: LlamaConfig): Float32Array {
  const out = b.slice();
  const half = rope.dim / 2;
  for (let head = 0; head < b.length / rank; head += headDim) {
    for (let i = 0; i < rope.dim; i++) {
      const [adjacent, halves] = [head + i, head + (i % 2) * half + (i >> 1)];
      const [to, from] = rope.pairing === "adjacent" ? [adjacent, halves] : [halves, adjacent];
      out.set(b.subarray(from * rank, (from + 1) * rank), to * rank);
    }
  }
  return out;
}

function fingerprintOf(updates: ReadonlyMap<string, LowRankUpdate>): Uint8Array {
  const hash = createHash("sha256");
  for (const [target, { rank, scale, a, b }] of [...updates].sort(([x], [y]) => (x < y ? -1 : 1))) {
    hash.update(JSON.stringify([target, rank, scale, a.length, b.length]));
    for (const factor of [a, b]) hash.update(new Uint8Array(factor.buffer, factor.byteOffset, factor.byteLength));
  }
  return hash.digest();
}
