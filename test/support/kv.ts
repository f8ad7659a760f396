import fc from "fast-check";

import type { CacheType, KernelSequence, KvLayer } from "../../lib/kernels.js";
import { blockBytes, blockTokens } from "../../lib/kv-block.js";
import type { CacheShape } from "../../lib/native.js";
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

const cacheType = fc.constantFrom<CacheType>("f32", "f16", "q8_0");
export const cacheTypes = fc.record({ keys: cacheType, values: cacheType });

/** A layer whose every element is `value(type)`: of f32 the number, of f16 the bits, of q8_0 the byte. */
export function kvLayer(shape: Omit<KvLayer, "k" | "v">, value: (type: CacheType) => number): KvLayer {
  const array = (type: CacheType) => {
    const data = new arrays[type](shape.blocks * shape.kvHeads * headLength(type, shape.headDim));
    for (let i = 0; i < data.length; i++) data[i] = value(type);
    return data;
  };
  return { ...shape, k: array(shape.keys), v: array(shape.values) };
}

const arrays = { f32: Float32Array, f16: Uint16Array, q8_0: Uint8Array } as const;

/** Elements of the array for one block and head: of q8_0 bytes, its int8s and then its scales. */
export function headLength(type: CacheType, headDim: number): number {
  return blockTokens * (headDim + (type === "q8_0" ? 2 * Math.ceil(headDim / 32) : 0));
}

/** A layer of keys and values of everyday size; in f16 of any size up to 2, in q8_0 with scales from 2⁻⁹ to 2⁻⁵. */
export function randomLayer(shape: Omit<KvLayer, "k" | "v">, next: Random): KvLayer {
  const cache = kvLayer(shape, (type) =>
    type === "f32" ? Math.fround(next() / 2 ** 30 - 2) : type === "f16" ? randomHalf(next) & 0xbfff : next() & 0xff,
  );
  for (const side of [sideOf(cache, "k"), sideOf(cache, "v")]) {
    if (side.type !== "q8_0") continue;
    for (let head = 0; head < shape.blocks * shape.kvHeads; head++) {
      for (let place = 0; place < blockTokens; place++) {
        for (let d = 0; d < shape.headDim; d += 32) setScale(side, { head, place, d }, 0x1800 + (next() & 0xfff));
      }
    }
  }
  return cache;
}

/** K or V of a layer. */
export interface KvSide {
  name: "k" | "v";
  type: CacheType;
  data: KvLayer["k"];
  headDim: number;
}

export const sideOf = (cache: KvLayer, name: "k" | "v"): KvSide => ({
  name,
  type: name === "k" ? cache.keys : cache.values,
  data: cache[name],
  headDim: cache.headDim,
});

/** Where an element stands: `head` counts the heads of all blocks. */
export interface Place {
  head: number;
  place: number;
  d: number;
}

/** The index of an element: a head's K is [headDim, 16], its V [16, headDim]. */
export function elementAt({ name, type, headDim }: KvSide, { head, place, d }: Place): number {
  return head * headLength(type, headDim) + (name === "k" ? d * blockTokens + place : place * headDim + d);
}

/** The index of the two bytes of an element's scale, in q8_0. */
export function scaleAt({ type, headDim }: KvSide, { head, place, d }: Place): number {
  return head * headLength(type, headDim) + blockTokens * headDim + 2 * (Math.floor(d / 32) * blockTokens + place);
}

export function setScale(side: KvSide, place: Place, bits: number): void {
  side.data.set([bits & 0xff, bits >> 8], scaleAt(side, place));
}

/** An element as a number. */
export function widened(side: KvSide, place: Place): number {
  const value = side.data[elementAt(side, place)]!;
  if (side.type === "f32") return value;
  if (side.type === "f16") return fromHalf(value);
  const at = scaleAt(side, place);
  return ((value << 24) >> 24) * fromHalf(side.data[at]! | (side.data[at + 1]! << 8));
}

/** Makes NaN of all that a token has of a head. */
export function spoil(side: KvSide, { head, place }: Omit<Place, "d">): void {
  for (let d = 0; d < side.headDim; d++) {
    const at = { head, place, d };
    if (side.type === "q8_0") setScale(side, at, 0x7e00);
    else side.data[elementAt(side, at)] = side.type === "f32" ? Number.NaN : 0x7e00;
  }
}

/** k of a token of a sequence. */
export const readKey = (cache: KvLayer, sequence: KernelSequence, token: number, head: number): number[] =>
  read(cache, "k", sequence, token, head);

/** v of a token of a sequence. */
export const readValue = (cache: KvLayer, sequence: KernelSequence, token: number, head: number): number[] =>
  read(cache, "v", sequence, token, head);

function read(cache: KvLayer, name: "k" | "v", { blocks }: KernelSequence, token: number, head: number): number[] {
  const side = sideOf(cache, name);
  const at = { head: blocks[Math.floor(token / blockTokens)]! * cache.kvHeads + head, place: token % blockTokens };
  return Array.from({ length: cache.headDim }, (_, d) => widened(side, { ...at, d }));
}

/** The blocks of a cache as one layer: block b of layer l is its block b * layers + l. */
export const asOneLayer = ({ layers, ...shape }: CacheShape, blocks: number): Omit<KvLayer, "k" | "v"> => ({
  ...shape,
  blocks: blocks * layers,
});

/** Blocks as cacheRead gives them, from such a layer: in the order of blocks and heads the K of each, then its V. */
export function blocksToBytes({ k, v, blocks, kvHeads }: KvLayer): Uint8Array {
  const sides = [k, v].map((array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  const heads = blocks * kvHeads;
  const parts = Array.from({ length: heads }, (_, head) =>
    sides.map((bytes) => bytes.subarray((head * bytes.length) / heads, ((head + 1) * bytes.length) / heads)),
  );
  return Uint8Array.from(Buffer.concat(parts.flat()));
}

/** The inverse of {@link blocksToBytes}. */
export function bytesToBlocks(shape: CacheShape, bytes: Uint8Array): KvLayer {
  const layer = kvLayer(asOneLayer(shape, bytes.length / blockBytes(shape)), () => 0);
  const heads = layer.blocks * layer.kvHeads;
  const [k, v] = [layer.k, layer.v].map(({ buffer }) => new Uint8Array(buffer)) as [Uint8Array, Uint8Array];
  const [kSize, vSize] = [k.length / heads, v.length / heads];
  for (let head = 0, at = 0; head < heads; head++, at += kSize + vSize) {
    k.set(bytes.subarray(at, at + kSize), head * kSize);
    v.set(bytes.subarray(at + kSize, at + kSize + vSize), head * vSize);
  }
  return layer;
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
