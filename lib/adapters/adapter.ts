/// <reference lib="esnext.disposable" preserve="true" />
import { createHash } from "node:crypto";

import type { Device } from "../device.js";
import { CriaError } from "../errors.js";
import { native } from "../native.js";
import type { FileTensor, LlamaConfig } from "../weights/source.js";
import { naming } from "../weights/store.js";
import { type AdapterFile, adapterBytes, checkAdapterFits } from "./adapter-file.js";
import { type Factor, type LoraFile, type LoraPair, rankOf } from "./lora-file.js";
import { firstLayer, type PrefixFile } from "./prefix-file.js";
import { checkRoom } from "./room.js";
import { transposed } from "./transposed.js";

/** What a LoRA adds to one matrix W of the model: W + scale · B A, the rows of B in the model's order. */
export interface LowRankUpdate {
  readonly rank: number;
  readonly scale: number;
  /** [outputs, rank] */
  readonly b: Float32Array;
  /** [rank, inputs] */
  readonly a: Float32Array;
}

/** What a LLaMA-Adapter puts beside the attention of one layer. */
export interface GatedPrompt {
  /** [length, dim]: what keys and values are made of. */
  readonly prompt: Float32Array;
  /** [heads] */
  readonly gates: Float32Array;
}

/** What an adapter is: of LoRA by the name of the matrix, of LLaMA-Adapter by the layer. */
export interface AdapterParts {
  readonly updates: ReadonlyMap<string, LowRankUpdate>;
  readonly prefix: ReadonlyMap<number, GatedPrompt>;
}

/**
 * An adapter in memory, for one model: `model.loadAdapter` makes it. It works where it is among those that
 * `model.setAdapters` sets.
 */
export class Adapter {
  readonly path: string;
  /** What was recognised: "PEFT", "GGUF v3" or "LLaMA-Adapter". */
  readonly format: string;
  /** The matrices of the model that a LoRA changes, under GGUF's names. */
  readonly targets: readonly string[];
  /** The memory that it takes. Set, it takes more, on the device: as much, or some times as much. */
  readonly bytes: number;
  /** SHA-256 of all that it changes a model by. */
  readonly fingerprint: Uint8Array;
  #parts: AdapterParts | undefined;

  /** {@link readAdapter} makes it. */
  constructor(file: AdapterFile, parts: AdapterParts) {
    this.path = file.path;
    this.format = file.format;
    this.targets = [...parts.updates.keys()];
    this.bytes = adapterBytes(file);
    this.fingerprint = fingerprintOf(parts);
    this.#parts = parts;
  }

  /**
   * @internal
   * @throws CriaError ERR_CRIA_DISPOSED after `dispose`
   */
  get parts(): AdapterParts {
    if (this.#parts === undefined) throw new CriaError("ERR_CRIA_DISPOSED", "adapter: was disposed");
    return this.#parts;
  }

  /** Gives its memory back. Where it is set it goes on working until others are. */
  dispose(): void {
    this.#parts = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Reads an adapter's weights, for a model of that shape.
 *
 * They come into JavaScript, unlike a model's: those of a LoRA that changes each matrix of a 7B by a rank of 16 are 160
 * MB, and where adapters change they are put together anew.
 *
 * @throws CriaFileError where it is for another model, or can no longer be read
 * @throws CriaError ERR_CRIA_MEMORY where the machine has not the memory
 */
export async function readAdapter(file: AdapterFile, config: LlamaConfig, device: Device): Promise<Adapter> {
  checkAdapterFits(file, config);
  checkRoom(file.path, { host: adapterBytes(file), device: 0 }, device);
  const none = { updates: new Map(), prefix: new Map() };
  if (file.kind === "lora") return new Adapter(file, { ...none, updates: await readUpdates(file, config, device) });
  return new Adapter(file, { ...none, prefix: await readPrompts(file, config, device) });
}

async function readUpdates(
  { pairs, pairing }: LoraFile,
  config: LlamaConfig,
  device: Device,
): Promise<Map<string, LowRankUpdate>> {
  const updates = new Map<string, LowRankUpdate>();
  for (const pair of pairs) {
    const turns = /\.attn_[qk]\.weight$/.test(pair.target) && pairing !== config.rope.pairing;
    const { b, ...rest } = await readUpdate(pair, device);
    updates.set(pair.target, { ...rest, b: turns ? repaired(b, rest.rank, config) : b });
  }
  return updates;
}

async function readUpdate(pair: LoraPair, device: Device): Promise<LowRankUpdate> {
  const a = await readFactor(pair.a, device);
  const b = await readFactor(pair.b, device);
  return { rank: rankOf(pair), scale: pair.scale, a, b };
}

/** Its elements as they are used, row by row. */
async function readFactor({ tensor, transposed: turned }: Factor, device: Device): Promise<Float32Array> {
  const floats = await readFloats(tensor, device);
  return turned ? transposed(floats, tensor.rows) : floats;
}

async function readPrompts(file: PrefixFile, config: LlamaConfig, device: Device): Promise<Map<number, GatedPrompt>> {
  const { gates, prefixLength, rawGates } = file;
  const all = await readFloats(file.prompts, device);
  const size = prefixLength * config.dim;
  const prefix = new Map<number, GatedPrompt>();
  for (let at = 0, layer = firstLayer(file, config); layer < config.layers; layer++, at += size) {
    const raw = await readFloats(gates.get(layer)!, device);
    prefix.set(layer, { prompt: all.slice(at, at + size), gates: rawGates ? raw : raw.map(Math.tanh) });
  }
  return prefix;
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

function fingerprintOf({ updates, prefix }: AdapterParts): Uint8Array {
  const hash = createHash("sha256");
  const add = (about: unknown[], ...floats: readonly Float32Array[]) => {
    hash.update(JSON.stringify([...about, ...floats.map(({ length }) => length)]));
    for (const each of floats) hash.update(new Uint8Array(each.buffer, each.byteOffset, each.byteLength));
  };
  for (const [target, { rank, scale, a, b }] of [...updates].sort(([x], [y]) => (x < y ? -1 : 1))) {
    add([target, rank, scale], a, b);
  }
  for (const [layer, { prompt, gates }] of prefix) add([layer], prompt, gates);
  return hash.digest();
}
