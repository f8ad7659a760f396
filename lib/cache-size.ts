import { integer, outOfRange, wrongType } from "./errors.js";
import { blockBytes, blockTokens } from "./kv-block.js";
import type { CacheShape } from "./native.js";
import { requireObject } from "./options.js";

/**
 * What the KV cache holds over all sequences: that many tokens, what fits that many bytes, or what fits a share, above
 * 0 and up to 1, of the memory that is free beside the weights and activations.
 */
export type CacheSize = { tokens: number } | { bytes: number } | { share: number };

/** Tokens that a cache may have at most: the pool counts its blocks in JavaScript, and these are 2^27 of them. */
const mostTokens = 2 ** 31;

/**
 * The tokens of a cache of that size, in whole blocks: `tokens` and `contextLength` rounded up, `bytes` and `share`
 * rounded down, and a share to no less than one block.
 *
 * @param contextLength tokens of a cache without a `size`
 * @param freeBytes what `share` is a share of
 * @throws TypeError or RangeError for a wrong size, one of `bytes` that are less than a block's among them
 */
export function poolTokens(
  shape: CacheShape,
  contextLength: number,
  size: CacheSize | undefined,
  freeBytes: number,
): number {
  const blocksOf = (bytes: number) => Math.floor(bytes / blockBytes(shape));
  const blocks = (() => {
    if (size === undefined) return Math.ceil(contextLength / blockTokens);
    const [unit, value] = onlyEntry(size);
    switch (unit) {
      case "tokens":
        return Math.ceil(integer("cacheSize.tokens", value, 1, mostTokens) / blockTokens);
      case "bytes":
        return blocksOf(integer("cacheSize.bytes", value, blockBytes(shape)));
      case "share":
        return Math.max(1, blocksOf(share("cacheSize.share", value) * freeBytes));
      default:
        throw outOfRange("cacheSize", "of tokens, bytes or share", unit);
    }
  })();
  return Math.min(blocks * blockTokens, mostTokens);
}

function onlyEntry(size: CacheSize): [string, unknown] {
  requireObject("cacheSize", size);
  const entries = Object.entries(size).filter(([, value]) => value !== undefined);
  if (entries.length !== 1)
    throw outOfRange(
      "cacheSize",
      "of one of tokens, bytes and share",
      entries.map(([unit]) => unit).join(" and ") || "none",
    );
  return entries[0]!;
}

function share(name: string, value: unknown): number {
  if (typeof value !== "number") throw wrongType(name, "a number", value);
  if (!(value > 0 && value <= 1)) throw outOfRange(name, "a number above 0 and up to 1", value);
  return value;
}
