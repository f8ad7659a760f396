import type { Device } from "../lib/device.js";
import { blockTokens } from "../lib/kv-block.js";
import { type CacheHandle, type CacheShape, type NativeBatch, native, type RopeOptions } from "../lib/native.js";
import { Program } from "../lib/program.js";
import { Cleanup } from "./cleanup.js";

/** A sequence's part of a batch: `length` new tokens after `past` in the cache, and the blocks of them all. */
export interface Part {
  length: number;
  past: number;
  blocks: readonly number[];
}

/** A batch of sequences' parts, with token ids by `token(row)`, and an output of each row of `outputs`. */
export function batchOf(
  parts: readonly Part[],
  token: (row: number) => number,
  outputs: readonly number[],
): NativeBatch {
  const positions = parts.flatMap(({ length, past }) => Array.from({ length }, (_, i) => past + i));
  return {
    tokens: Int32Array.from(positions, (_, row) => token(row)),
    positions: Int32Array.from(positions),
    lengths: Int32Array.from(parts, ({ length }) => length),
    pasts: Int32Array.from(parts, ({ past }) => past),
    blockCounts: Int32Array.from(parts, ({ blocks }) => blocks.length),
    blocks: Int32Array.from(parts.flatMap(({ blocks }) => blocks)),
    outputs: Int32Array.from(outputs),
  };
}

/** Tokens that are written at a time. */
const chunk = 512;

/**
 * Writes random keys and values to blocks of every layer of a cache, so that reading them reads memory: pages that were
 * never written are all the same page of zeros.
 */
export async function fillCache(
  device: Device,
  cache: CacheHandle,
  shape: CacheShape,
  blocks: readonly number[],
): Promise<void> {
  const width = 3 * shape.kvHeads * shape.headDim;
  using made = new Cleanup();
  const table = made.handle(native.matrixCreate(device.handle, "f32", chunk, width));
  await device.queue(() => native.tensorFillRandom(table, 1, 1));
  const options: RopeOptions = {
    heads: shape.kvHeads,
    rotaryDim: shape.headDim,
    halves: false,
    theta: 10_000,
    scale: 1,
  };
  using program = new Program(device, shape);
  const qkv = program.value("tokens", width);
  const result = program.value("outputs", width);
  for (let layer = 0; layer < shape.layers; layer++) {
    program.embed(table, qkv); // anew, for RoPE turns what it reads
    program.rope(qkv, layer, options);
  }
  program.select(qkv, result);
  program.finish(result);
  const tokens = blocks.length * blockTokens;
  for (let past = 0; past < tokens; past += chunk) {
    const part = { past, length: Math.min(chunk, tokens - past), blocks };
    await program.run(
      cache,
      batchOf([part], (row) => row, []),
    );
  }
}
