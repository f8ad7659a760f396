import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { blockTokens } from "../lib/kv-block.js";
import { KvPool } from "../lib/kv-pool.js";
import { type KvMoves, KvSequence } from "../lib/kv-sequence.js";
import { describeError } from "./support/compare.js";

const device = new Device({ isa: "scalar", threads: 1 });
const shape = { keys: "f16", values: "f16", layers: 1, kvHeads: 1, headDim: 8 } as const;

/** What stands in a slot: a name of the text that it follows from, or one of its own, and its key's position. */
interface Held {
  readonly content: number;
  readonly position: number;
}

/** The name of a text that ends in `token`, from the name of what comes before it: those of 0s and 1s are all different. */
const follow = (before: number, token: number) => (before * 1_000_003 + token + 1) % 2 ** 31;

/** What reading the tokens writes. */
function contentsOf(tokens: readonly number[]): Held[] {
  let content = 0;
  return tokens.map((token, position) => {
    content = follow(content, token);
    return { content, position };
  });
}

/** A sequence, and the contiguous cache that it should be the same as. */
interface Pair {
  readonly kv: KvSequence;
  tokens: number[];
  held: Held[];
  /** From here on what is held does not follow from the tokens. */
  edited: number;
}

/** A pool whose arena is an array, with the sequences on it. */
class World {
  readonly pool: KvPool;
  readonly arena: (Held | undefined)[];
  pairs: Pair[] = [];
  #written = 0;

  constructor(blocks: number) {
    this.pool = new KvPool(device, shape, blocks * blockTokens);
    this.arena = new Array(blocks * blockTokens);
  }

  pick(index: number): Pair | undefined {
    return this.pairs[index % Math.max(1, this.pairs.length)];
  }

  move({ from, to, shift }: KvMoves): void {
    const sources = Array.from(from, (slot) => this.arena[slot]);
    for (const [i, slot] of to.entries()) {
      const source = sources[i]!;
      this.arena[slot] = { ...source, position: source.position + shift };
    }
  }

  /** Makes room for tokens, where as many blocks are free as it says that it needs. False where the pool is full. */
  reserve(pair: Pair, count: number): boolean {
    const needed = pair.kv.needs(count);
    const free = this.pool.freeBlocks;
    if (needed > free) {
      expect(describeError(() => pair.kv.reserve(count))?.code).toBe("ERR_CRIA_CACHE_FULL");
      return false;
    }
    const moves = pair.kv.reserve(count);
    expect(this.pool.freeBlocks).toBe(free - needed);
    if (moves !== undefined) this.move(moves);
    return true;
  }

  /** Reads tokens as a run does. False where the pool is full. */
  read(pair: Pair, tokens: readonly number[]): boolean {
    if (!this.reserve(pair, tokens.length)) return false;
    for (const token of tokens) {
      const position = pair.tokens.length;
      pair.tokens.push(token);
      const before = pair.held.at(-1)?.content ?? 0;
      const content = position < pair.edited ? follow(before, token) : -++this.#written;
      pair.held.push({ content, position });
      const block = pair.kv.blockTable[Math.floor(position / blockTokens)]!;
      this.arena[block * blockTokens + (position % blockTokens)] = { content, position };
    }
    pair.kv.commit(tokens.length, Int32Array.from(pair.tokens));
    return true;
  }

  check(): void {
    const holders = new Map<number, number>();
    for (const { kv, held } of this.pairs) {
      expect(kv.length).toBe(held.length);
      const stands = (_: Held, i: number) =>
        this.arena[kv.blockTable[Math.floor(i / blockTokens)]! * blockTokens + (i % blockTokens)];
      const wrong = held.findIndex((expected, i) => {
        const found = stands(expected, i);
        return found?.content !== expected.content || found.position !== expected.position;
      });
      expect(wrong, "the first token whose slot holds something else").toBe(-1);
      expect(new Set(kv.blockTable).size).toBe(kv.blockTable.length);
      for (const block of kv.blockTable) holders.set(block, (holders.get(block) ?? 0) + 1);
    }
    const { blocks, free, cached, shared } = this.pool.statistics;
    expect(free + cached + holders.size).toBe(blocks);
    expect(shared).toBe([...holders.values()].filter((count) => count > 1).length);
  }
}

type Operation = (world: World) => void;

const begin =
  (token: number, count: number): Operation =>
  (world) => {
    const tokens = new Array<number>(count).fill(token);
    const pair: Pair = { kv: new KvSequence(world.pool), tokens: [], held: [], edited: Number.POSITIVE_INFINITY };
    world.pairs.push(pair);
    pair.kv.find(Int32Array.from(tokens), count - 1);
    // What was found is what reading would have written.
    expect(pair.kv.length % blockTokens).toBe(0);
    pair.tokens = tokens.slice(0, pair.kv.length);
    pair.held = contentsOf(pair.tokens);
    world.read(pair, tokens.slice(pair.kv.length));
  };
const read =
  (index: number, token: number, count: number): Operation =>
  (world) => {
    const pair = world.pick(index);
    if (pair !== undefined) world.read(pair, new Array<number>(count).fill(token));
  };
/** What a run that is aborted leaves: room, and nothing in it. */
const abort =
  (index: number, count: number): Operation =>
  (world) => {
    const pair = world.pick(index);
    if (pair !== undefined) world.reserve(pair, count);
  };
const fork =
  (index: number): Operation =>
  (world) => {
    const pair = world.pick(index);
    if (pair !== undefined)
      world.pairs.push({ ...pair, kv: pair.kv.fork(), tokens: [...pair.tokens], held: [...pair.held] });
  };
const truncate =
  (index: number, share: number): Operation =>
  (world) => {
    const pair = world.pick(index);
    if (pair === undefined) return;
    const length = Math.floor(pair.tokens.length * share);
    pair.kv.truncate(length);
    pair.tokens.length = length;
    pair.held.length = length;
    if (length <= pair.edited) pair.edited = Number.POSITIVE_INFINITY;
  };
const removeRange =
  (index: number, first: number, share: number, keep: boolean): Operation =>
  (world) => {
    const pair = world.pick(index);
    if (pair === undefined) return;
    const begin = Math.floor(pair.tokens.length * first);
    const end = begin + Math.floor((pair.tokens.length - begin) * share);
    if (pair.kv.removalNeeds(begin, end, keep) > world.pool.freeBlocks) {
      expect(describeError(() => pair.kv.removeRange(begin, end, keep))?.code).toBe("ERR_CRIA_CACHE_FULL");
      return;
    }
    const blocks = pair.kv.blockTable.length;
    for (const moves of pair.kv.removeRange(begin, end, keep)) world.move(moves);
    if (keep && end < pair.tokens.length) expect(pair.kv.blockTable.length).toBe(blocks);
    if (begin < end && end < pair.tokens.length) pair.edited = Math.min(pair.edited, begin);
    if (begin <= pair.edited && end === pair.tokens.length && begin < end) pair.edited = Number.POSITIVE_INFINITY;
    pair.tokens.splice(begin, end - begin);
    pair.held.splice(begin, end - begin);
    pair.held = pair.held.map(({ content }, position) => ({ content, position }));
  };
const free =
  (index: number): Operation =>
  (world) => {
    const pair = world.pick(index);
    pair?.kv.free();
    world.pairs = world.pairs.filter((other) => other !== pair);
  };

const share = fc.double({ min: 0, max: 1, noNaN: true });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.tuple(fc.nat(1), fc.integer({ min: 1, max: 70 })).map((args) => begin(...args)),
  fc.tuple(fc.nat(), fc.nat(1), fc.integer({ min: 1, max: 40 })).map((args) => read(...args)),
  fc.nat().map(fork),
  fc.tuple(fc.nat(), share).map((args) => truncate(...args)),
  fc.tuple(fc.nat(), fc.integer({ min: 1, max: 40 })).map((args) => abort(...args)),
  fc.tuple(fc.nat(), share, share, fc.boolean()).map((args) => removeRange(...args)),
  fc.nat().map(free),
);

describe("sequences on a pool", () => {
  test("hold what contiguous caches would, whatever is done, and never write to what is shared", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 24 }),
        fc.array(operation, { maxLength: 40, size: "max" }),
        (blocks, operations) => {
          const world = new World(blocks);
          for (const apply of operations) {
            apply(world);
            world.check();
          }
          for (const { kv } of world.pairs) kv.free();
          expect(world.pool.freeBlocks).toBe(blocks);
          world.pool.dispose();
        },
      ),
      { numRuns: 3000 },
    );
  });

  const run = (kv: KvSequence, tokens: Int32Array) => {
    const moves = kv.reserve(tokens.length - kv.length);
    kv.commit(tokens.length - kv.length, tokens);
    return moves;
  };
  const counting = (count: number) => Int32Array.from({ length: count }, (_, i) => i);

  test("find what others have read, and forget the least recently held", () => {
    const pool = new KvPool(device, shape, 6 * blockTokens);
    const first = new KvSequence(pool);
    run(first, counting(50));
    const second = new KvSequence(pool);
    second.find(counting(60), 59);
    expect(second.length).toBe(48);
    expect(second.blockTable).toEqual(first.blockTable.slice(0, 3));
    expect(pool.statistics).toMatchObject({ free: 2, cached: 0, shared: 3, hits: 3, misses: 0, evictions: 0 });
    first.free();
    second.free();
    expect(pool.statistics).toMatchObject({ free: 3, cached: 3, shared: 0 });

    // Two blocks more than are free: of the text's the last go first.
    const other = new KvSequence(pool);
    other.reserve(5 * blockTokens);
    expect(pool.statistics).toMatchObject({ free: 0, cached: 1, evictions: 2 });
    const third = new KvSequence(pool);
    third.find(counting(60), 59);
    expect(third.length).toBe(16);
    pool.dispose();
  });

  test("find nothing of a text that begins otherwise, and no more than is asked for", () => {
    const pool = new KvPool(device, shape, 8 * blockTokens);
    run(new KvSequence(pool), counting(48));
    const found = (tokens: Int32Array, most: number) => {
      using kv = new KvSequence(pool);
      kv.find(tokens, most);
      return kv.length;
    };
    expect(found(counting(48), 48)).toBe(48);
    expect(found(counting(48), 47)).toBe(32);
    const late = counting(48).subarray(16); // the second block's tokens, at the start
    expect(found(late, 32)).toBe(0);
    const changed = counting(48);
    changed[0] = 7;
    expect(found(changed, 48)).toBe(0);
    pool.dispose();
  });

  test("that have read the same share its blocks", () => {
    const pool = new KvPool(device, shape, 8 * blockTokens);
    const [first, second] = [new KvSequence(pool), new KvSequence(pool)];
    run(first, counting(40));
    run(second, counting(40));
    expect(second.blockTable.slice(0, 2)).toEqual(first.blockTable.slice(0, 2));
    expect(second.blockTable[2]).not.toBe(first.blockTable[2]);
    expect(pool.freeBlocks).toBe(4);
    pool.dispose();
  });

  test("copy a block that a fork shares, when it is written to", () => {
    const pool = new KvPool(device, shape, 8 * blockTokens);
    const kv = new KvSequence(pool);
    run(kv, counting(20));
    const fork = kv.fork();
    const [shared, partial] = kv.blockTable as [number, number];
    const moves = run(fork, counting(21));
    const copy = fork.blockTable[1]!;
    expect(moves).toEqual({
      from: Int32Array.from([0, 1, 2, 3], (place) => partial * blockTokens + place),
      to: Int32Array.from([0, 1, 2, 3], (place) => copy * blockTokens + place),
      shift: 0,
    });
    expect(kv.blockTable).toEqual([shared, partial]);
    expect(run(kv, counting(21))).toBeUndefined(); // its alone by now
    pool.dispose();
  });

  test("change nothing when the pool is full", () => {
    const pool = new KvPool(device, shape, 2 * blockTokens);
    const kv = new KvSequence(pool);
    run(kv, counting(20));
    const fork = kv.fork();
    const before = { length: fork.length, blockTable: [...fork.blockTable] };
    expect(describeError(() => fork.reserve(1))?.code).toBe("ERR_CRIA_CACHE_FULL");
    expect(describeError(() => fork.removeRange(1, 3))?.code).toBe("ERR_CRIA_CACHE_FULL");
    expect(fork).toMatchObject(before);
    pool.dispose();
  });
});
