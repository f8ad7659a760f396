import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { blockBytes } from "../lib/kv-block.js";
import { KvPool } from "../lib/kv-pool.js";
import { KvSequence } from "../lib/kv-sequence.js";
import { native } from "../lib/native.js";
import { describeError, expectArgumentError } from "./support/compare.js";

const device = new Device({ isa: "scalar", threads: 1 });
const shape = { keys: "f16", values: "f16", layers: 2, kvHeads: 1, headDim: 8 } as const;

/** A pool of `blocks` blocks, and what should be true of it: each block's references. */
class Model {
  readonly pool: KvPool;
  readonly references: number[];

  constructor(blocks: number) {
    this.pool = new KvPool(device, shape, 16 * blocks);
    this.references = new Array(blocks).fill(0);
  }

  get free(): number {
    return this.references.filter((count) => count === 0).length;
  }

  /** The held blocks that `picks` choose, one each: some may be chosen twice. */
  held(picks: readonly number[]): number[] {
    const held = this.references.flatMap((count, block) => (count > 0 ? [block] : []));
    return held.length === 0 ? [] : picks.map((pick) => held[pick % held.length]!);
  }

  check(): void {
    expect(this.pool.freeBlocks).toBe(this.free);
  }
}

const allocate = (count: number) => (model: Model) => {
  if (count > model.free) {
    expect(describeError(() => model.pool.allocate(count))).toEqual({
      name: "CriaError",
      code: "ERR_CRIA_CACHE_FULL",
      message: `the KV pool is full: ${count} more blocks of 16 tokens were asked for, ${model.free} of ${model.pool.blocks} are free`,
    });
    return;
  }
  const blocks = model.pool.allocate(count);
  expect(new Set(blocks).size).toBe(count);
  for (const block of blocks) {
    expect(model.references[block]).toBe(0);
    model.references[block] = 1;
  }
};

const retain = (picks: readonly number[]) => (model: Model) => {
  const blocks = model.held(picks);
  model.pool.retain(blocks);
  for (const block of blocks) model.references[block]! += 1;
};

const release = (picks: readonly number[]) => (model: Model) => {
  const blocks = model.held(picks);
  const times = (block: number) => blocks.filter((one) => one === block).length;
  const over = blocks.find((block) => times(block) > model.references[block]!);
  if (over !== undefined) {
    expect(() => model.pool.release(blocks)).toThrow(
      `block ${over} of the KV pool must be held ${times(over)} times, not ${model.references[over]}`,
    );
    return;
  }
  model.pool.release(blocks);
  for (const block of blocks) model.references[block]! -= 1;
};

const retainFree = () => (model: Model) => {
  const free = model.references.indexOf(0);
  if (free < 0) return;
  expect(() => model.pool.retain([...model.held([0]), free])).toThrow(
    `block ${free} of the KV pool must be held 1 times, not 0`,
  );
};

const operation = fc.oneof(
  fc.nat(8).map(allocate),
  fc.array(fc.nat(), { maxLength: 5 }).map(retain),
  fc.array(fc.nat(), { maxLength: 8 }).map(release),
  fc.constant(retainFree()),
);

describe("the KV pool", () => {
  test("keeps count of every block, whatever is done with them", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.array(operation, { maxLength: 60 }), (blocks, operations) => {
        const model = new Model(blocks);
        for (const apply of operations) {
          apply(model);
          model.check();
        }
        // Every reference given back, every block is there to be had again.
        while (model.free < blocks) release(Array.from({ length: blocks - model.free }, (_, i) => i))(model);
        expect(model.pool.allocate(blocks).sort((a, b) => a - b)).toEqual(model.references.map((_, i) => i));
        model.pool.dispose();
      }),
    );
  });

  test("holds as many tokens as it was made for, in whole blocks", () => {
    const pool = new KvPool(device, shape, 33);
    expect(pool).toMatchObject({ blocks: 3, capacity: 48, freeBlocks: 3 });
    expect(blockBytes(shape)).toBe(2 * 2 * 8 * 16 * 2); // K and V, layers, dimensions, tokens, bytes
    expect(native.cacheBytes(pool.cache)).toBeGreaterThanOrEqual(3 * blockBytes(shape));
    pool.dispose();
  });

  test.each([
    ["f32", "f32", 8, 2 * 8 * 4],
    ["f16", "f32", 40, 40 * (2 + 4)],
    ["q8_0", "q8_0", 8, 2 * (8 + 2)], // a scale of two bytes for each 32 dimensions, and for those left over
    ["q8_0", "q8_0", 128, 2 * (128 + 8)],
    ["q8_0", "f16", 72, 72 + 6 + 2 * 72],
  ] as const)(
    "with keys in %s, values in %s and %i dimensions takes %i bytes a head and token",
    (keys, values, headDim, bytes) => {
      const pool = new KvPool(device, { keys, values, layers: 3, kvHeads: 2, headDim }, 1600);
      expect(blockBytes(pool.shape)).toBe(3 * 2 * 16 * bytes);
      expect(native.cacheBytes(pool.cache)).toBe(100 * blockBytes(pool.shape));
      pool.dispose();
    },
  );

  test.each([
    [0, "tokens: must be an integer of at least 1, not 0"],
    [Number.NaN, "tokens: must be an integer of at least 1, not NaN"],
    [1.5, "tokens: must be an integer of at least 1, not 1.5"],
  ])("refuses to hold %s tokens", (tokens, message) => {
    expectArgumentError(() => new KvPool(device, shape, tokens), new RangeError(message));
  });

  test.each([
    [{ layers: 0 }, "options.layers: must be from 1 to 2^31 - 1, not 0"],
    [{ headDim: 12 }, "options.headDim: must be a multiple of 8, at most 256, not 12"],
    [{ kvHeads: 0 }, "options.kvHeads: must be from 1 to 2^31 - 1, not 0"],
    [{ keys: "q4_0" }, 'shape.keys: must be one of f32, f16, q8_0, not "q4_0"'],
    [{ values: "F16" }, 'shape.values: must be one of f32, f16, q8_0, not "F16"'],
  ])("refuses a shape with %o", (changes, message) => {
    expectArgumentError(() => new KvPool(device, { ...shape, ...changes } as never, 16), new RangeError(message));
  });

  test("too large for any machine is a typed error", () => {
    const huge = { ...shape, layers: 2 ** 31 - 1, kvHeads: 2 ** 20, headDim: 256 };
    expect(describeError(() => new KvPool(device, huge, 16 * (2 ** 31 - 1)))?.code).toMatch(/^ERR_CRIA_/);
  });
});

describe("a sequence of the KV pool", () => {
  test("takes a block when its tokens need one, and gives all back", () => {
    const pool = new KvPool(device, shape, 64);
    const sequence = new KvSequence(pool);
    const blocksAfter = (tokens: number) => {
      sequence.reserve(tokens);
      sequence.commit(tokens);
      return sequence.blockTable.length;
    };
    expect([blocksAfter(1), blocksAfter(14), blocksAfter(1), blocksAfter(1), blocksAfter(32)]).toEqual([1, 1, 1, 2, 4]);
    expect(sequence.length).toBe(49);
    sequence.free();
    expect(sequence).toMatchObject({ length: 0, blockTable: [] });
    expect(pool.freeBlocks).toBe(4);
    pool.dispose();
  });

  test("loses nothing when the pool is full", () => {
    const pool = new KvPool(device, shape, 64);
    const [first, second] = [new KvSequence(pool), new KvSequence(pool)];
    first.reserve(40);
    first.commit(40);
    const table = [...first.blockTable];
    expect(() => second.reserve(17)).toThrow(expect.objectContaining({ code: "ERR_CRIA_CACHE_FULL" }));
    expect(() => first.reserve(25)).toThrow(expect.objectContaining({ code: "ERR_CRIA_CACHE_FULL" }));
    expect(first).toMatchObject({ length: 40, blockTable: table });
    expect(second.blockTable).toEqual([]);
    expect(pool.freeBlocks).toBe(1);
    second.reserve(16);
    first.free();
    second.reserve(64);
    expect(pool.freeBlocks).toBe(0);
    pool.dispose();
  });
});
