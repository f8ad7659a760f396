import fc from "fast-check";

import type { CacheType, KernelSequence, KvLayer } from "../../lib/kernels.js";
import { blockTokens } from "../../lib/kv-pool.js";
import { type Random, randomHalf } from "./arbitraries.js";
import { fromHalf } from "./half.js";

/** The heads of a layer: as many of k and v as of q, fewer, or one. */
export const headShapes = fc.constantFrom(
  { heads: 1, kvHeads: 1 },
  { heads: 3, kvHeads: 3 },
  { heads: 6, kvHeads: 2 },
  { heads: 5, kvHeads: 1 },
  { heads: 16, kvHeads: 2 },
);

/** Any multiple of 8 up to 256, small ones more often. */
export const headDims = fc
  .oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 9 }) }, fc.integer({ min: 10, max: 32 }))
  .map((eights) => 8 * eights);

export const cacheTypes = fc.constantFrom<CacheType>("f32", "f16");

/** A layer whose every value is `value()`: of f16 the bits, of f32 the number. */
export function kvLayer(shape: Omit<KvLayer, "k" | "v">, value: () => number): KvLayer {
  const length = shape.blocks * shape.kvHeads * shape.headDim * blockTokens;
  const array = () =>
    shape.type === "f32" ? Float32Array.from({ length }, value) : Uint16Array.from({ length }, value);
  return { ...shape, k: array(), v: array() };
}

/** A key or value of everyday size, for a layer of `type`; in f16 of any size up to 2. */
export function randomKv(type: CacheType, next: Random): number {
  return type === "f32" ? Math.fround(next() / 2 ** 30 - 2) : randomHalf(next) & 0xbfff;
}

const widen = (cache: KvLayer, value: number): number => (cache.type === "f32" ? value : fromHalf(value));

/** k of a token of a sequence: its block and place, from the head's [headDim, 16]. */
export function readKey(cache: KvLayer, { blocks }: KernelSequence, token: number, head: number): number[] {
  const block = blocks[Math.floor(token / blockTokens)]!;
  const base = (block * cache.kvHeads + head) * cache.headDim;
  return Array.from({ length: cache.headDim }, (_, d) =>
    widen(cache, cache.k[(base + d) * blockTokens + (token % blockTokens)]!),
  );
}

/** v of a token of a sequence: its block and place, from the head's [16, headDim]. */
export function readValue(cache: KvLayer, { blocks }: KernelSequence, token: number, head: number): number[] {
  const block = blocks[Math.floor(token / blockTokens)]!;
  const base = ((block * cache.kvHeads + head) * blockTokens + (token % blockTokens)) * cache.headDim;
  return Array.from(cache.v.subarray(base, base + cache.headDim), (value) => widen(cache, value));
}

/** Gives sequences block tables of their own, in random order; `spare` blocks of the cache stay in no table. */
export function placeSequences(
  lengths: readonly { length: number; past: number }[],
  spare: number,
  next: Random,
): { sequences: { length: number; past: number; blocks: number[] }[]; blocks: number } {
  const needed = lengths.map(({ length, past }) => Math.ceil((past + length) / blockTokens));
  const blocks = needed.reduce((sum, n) => sum + n, spare);
  const order = shuffled(blocks, next);
  return { sequences: lengths.map((lengths, s) => ({ ...lengths, blocks: order.splice(0, needed[s]!) })), blocks };
}

/** The integers from 0 to n - 1, in random order (Fisher and Yates). */
export function shuffled(n: number, next: Random): number[] {
  const order = Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = next() % (i + 1);
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
