/** What an op's file says of it: its problems, the work in each, how to run it again and again, and its result. */
import type { Device, Isa } from "../../lib/device.js";
import type { Execution, WeightType } from "../../lib/kernels.js";
import { blockTokens } from "../../lib/kv-block.js";
import { type CacheHandle, type CacheShape, type NativeBatch, native, type TensorHandle } from "../../lib/native.js";
import { Program, type Value } from "../../lib/program.js";
import { batchOf } from "../cache.js";
import { Cleanup } from "../cleanup.js";
import { type Multiplier, peakOf } from "../limits.js";
import type { Limits } from "../schema.js";

/** What an op must do at the least: the bytes that it moves to and from memory, and its operations. */
export interface Work {
  bytes: number;
  /** A multiply-add is two. */
  operations: number;
  /** How both follow from the shape. */
  model: string;
  /** What the figure counts. */
  unit: "GOP/s" | "GFLOP/s" | "GB/s";
  /** How memory is used: the limit that the bytes are held against. */
  memory: "readGBs" | "copyGBs";
  /** What the operations are done with; int8 products by the instruction that the device's kernels have for them. */
  by: Multiplier;
}

/** An op at one shape and number of tokens. */
export interface Problem {
  /** "7b.gate_up" */
  readonly shape: string;
  readonly tokens: number;
  /** Of the weights, or of the cached keys and values. */
  readonly format?: string;
  /** Tokens in the cache before. */
  readonly context?: number;
  readonly work: Work;
  /** Makes what the op runs over, for this device and all others of the CPU. Problems that share it share the operands. */
  readonly operands: (device: Device) => Promise<Operands>;
  /** The kernel's result for random numbers in a small cut of the shape, the same numbers each time. */
  result(execution: Execution): Promise<Float32Array>;
}

export interface Operands extends Disposable {
  /** The op for `tokens` tokens, `count` times in one run that does not return to JavaScript in between. */
  repeated(device: Device, tokens: number, count: number): Repeated;
}

export interface Repeated extends Disposable {
  run(): Promise<unknown>;
}

export interface Op {
  readonly name: string;
  /** One of them for each number of tokens that it makes sense at. */
  problems(model: string, tokens: readonly number[]): Problem[];
}

/** The least seconds that the work takes within the limits, and null where one that it needs was not measured. */
export function leastSeconds({ bytes, operations, memory, by }: Work, isa: Isa, limits: Limits): number | null {
  const peak = peakOf(isa, by, limits);
  if (peak === null && operations > 0) return null;
  return Math.max(bytes / limits[memory] / 1e9, operations / (peak ?? 1) / 1e9);
}

/** Whether it is reading memory that takes that long. */
export function readBound(work: Work, isa: Isa, limits: Limits): boolean {
  const reading = work.bytes / limits.readGBs / 1e9;
  return work.memory === "readGBs" && reading === leastSeconds(work, isa, limits);
}

/** What the figure counts: 10⁹ of bytes or operations. */
export const amountOf = ({ unit, bytes, operations }: Work): number => (unit === "GB/s" ? bytes : operations) / 1e9;

/** Work of which memory is the limit: `bytes` read and written. In caches, they go beyond it. */
export const moved = (bytes: number, bytesModel: string): Work => {
  const model = `${bytesModel}; above 100 % where caches hold the rows`;
  return { bytes, operations: 0, model, unit: "GB/s", memory: "copyGBs", by: "fma" };
};

/** Tokens that are measured at most: rows of the tables that fill a program's inputs. */
export const mostTokens = 512;

/** As good as no cache: a program wants one's shape, and a batch that its tokens fit. */
const noCache: CacheShape = { keys: "f16", values: "f16", layers: 1, kvHeads: 1, headDim: 8 };
const noBlocks = Array.from({ length: mostTokens / blockTokens }, (_, i) => i);

/** A table of random rows. Of one row's values, those of q8_0 lie closest together. */
export async function randomTable(device: Device, width: number): Promise<TensorHandle> {
  return randomMatrix(device, "q8_0", mostTokens, width);
}

/** A random matrix that keeps the size of what it multiplies. */
export async function randomMatrix(
  device: Device,
  type: WeightType,
  rows: number,
  cols: number,
  seed = 1,
): Promise<TensorHandle> {
  using made = new Cleanup();
  const matrix = made.handle(native.matrixCreate(device.handle, type, rows, cols));
  await device.queue(() => native.tensorFillRandom(matrix, seed, 1 / Math.sqrt(cols)));
  made.move();
  return matrix;
}

/** A program of `record`'s ops over a batch, by itself: without a result, or a cache unless one is given. */
export function programOf(
  device: Device,
  record: (program: Program) => void,
  batch: NativeBatch,
  cached?: { shape: CacheShape; cache: CacheHandle },
): Repeated {
  const program = new Program(device, cached?.shape ?? noCache);
  record(program);
  program.finish(program.value("outputs", 1));
  const cache = cached?.cache ?? native.cacheCreate(device.handle, noCache, noBlocks.length);
  return {
    run: () => program.run(cache, batch),
    [Symbol.dispose]: () => {
      program.dispose();
      if (cached === undefined) native.free(cache);
    },
  };
}

/** The value that `record`'s ops leave, of all tokens of a batch. They use no cache. */
export async function resultOf(
  device: Device,
  record: (program: Program) => Value,
  batch: NativeBatch,
): Promise<Float32Array> {
  using program = new Program(device, noCache);
  const value = record(program);
  const result = program.value("outputs", value.width);
  program.select(value, result);
  program.finish(result);
  const cache = native.cacheCreate(device.handle, noCache, noBlocks.length);
  try {
    return await program.run(cache, { ...batch, outputs: Int32Array.from(batch.tokens, (_, row) => row) });
  } finally {
    native.free(cache);
  }
}

/** A batch of tokens for ops that use no cache. */
export function uncachedBatch(tokens: number): NativeBatch {
  return batchOf([{ length: tokens, past: 0, blocks: noBlocks }], (row) => row, []);
}

/** A new value that holds random numbers, filled from a table of at least that width. */
export function filled(program: Program, table: TensorHandle): Value {
  const value = program.value("tokens", native.tensorCols(table));
  program.embed(table, value);
  return value;
}
