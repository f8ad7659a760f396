import { describe, expect, test } from "vitest";

import { PrefixCache } from "../lib/prefix-cache.js";
import { Xoshiro128 } from "../lib/random.js";

/** Two blocks of other tokens with one hash: some 80,000 random ones hold a pair (the birthday paradox). */
function collision(): [Int32Array, Int32Array] {
  const random = Xoshiro128.fromSeed(7);
  const seen = new Map<number, Int32Array>();
  for (;;) {
    const tokens = Int32Array.from({ length: 16 }, () => random.next() % 32000);
    const { hash } = new PrefixCache().add(undefined, tokens, 0);
    const other = seen.get(hash);
    if (other !== undefined) return [other, tokens];
    seen.set(hash, tokens);
  }
}

describe("the prefix cache's index", () => {
  const [one, other] = collision();
  const child = Int32Array.from({ length: 16 }, (_, i) => i);

  test("tells blocks of one hash apart by their tokens", () => {
    const cache = new PrefixCache();
    const entry = cache.add(undefined, one, 3);
    expect(cache.find(undefined, other)).toBeUndefined();
    const second = cache.add(undefined, other, 4);
    expect(cache.find(undefined, one)).toBe(entry);
    expect(cache.find(undefined, other)).toBe(second);
    cache.remove(3);
    expect(cache.find(undefined, one)).toBeUndefined();
    expect(cache.find(undefined, other)).toBe(second);
  });

  test("and by what comes before them", () => {
    const cache = new PrefixCache();
    const [first, second] = [cache.add(undefined, one, 1), cache.add(undefined, other, 2)];
    const entry = cache.add(first, child, 3);
    expect(cache.find(first, child)).toBe(entry);
    expect(cache.find(second, child)).toBeUndefined();
    expect(cache.find(undefined, child)).toBeUndefined();
  });

  test("copies the tokens, which their owner may change", () => {
    const cache = new PrefixCache();
    const tokens = child.slice();
    cache.add(undefined, tokens, 1);
    tokens[0] = 99;
    expect(cache.find(undefined, child)?.block).toBe(1);
    expect(cache.find(undefined, tokens)).toBeUndefined();
  });
});
