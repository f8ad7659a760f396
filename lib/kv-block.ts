/** The cache's blocks: how many tokens they hold, and the bytes that these take. */
import type { CacheShape, CacheType } from "./native.js";

/** Tokens in a block of the cache. */
export const blockTokens = 16;

/** Bytes of K and V for one block of `shape`, over all layers. */
export function blockBytes({ keys, values, layers, kvHeads, headDim }: CacheShape): number {
  return layers * kvHeads * blockTokens * (rowBytes(keys, headDim) + rowBytes(values, headDim));
}

/** Bytes of one token's key, or value, of one head. */
function rowBytes(type: CacheType, headDim: number): number {
  return headDim * elementBytes[type] + 2 * scaleCount(type, headDim);
}

/** Bytes of one number of a key or a value, beside its scale. */
export const elementBytes: Readonly<Record<CacheType, number>> = { f32: 4, f16: 2, q8_0: 1 };

/**
 * Scales of one token's key, or value, of one head: in q8_0 each 32 dimensions, and those left over, have one, an f16.
 */
export function scaleCount(type: CacheType, headDim: number): number {
  return type === "q8_0" ? Math.ceil(headDim / 32) : 0;
}
