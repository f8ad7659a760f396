import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";

import { type Execution, type KvLayer, rope } from "../lib/kernels.js";
import { blockBytes, blockTokens } from "../lib/kv-block.js";
import {
  type CacheHandle,
  type CacheShape,
  type CacheType,
  type DeviceHandle,
  native,
  type RopeOptions,
} from "../lib/native.js";
import { Xoshiro128 } from "../lib/random.js";
import { type Random, random } from "./support/arbitraries.js";
import { expectSameBits } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";
import {
  asOneLayer,
  blocksToBytes,
  bytesToBlocks,
  cacheTypes,
  elementAt,
  headDims,
  type KvSide,
  kvLayer,
  type Place,
  randomLayer,
  scaleAt,
  shuffled,
  sideOf,
  widened,
} from "./support/kv.js";

const iota = (count: number) => Int32Array.from({ length: count }, (_, i) => i);

const seeded = (seed: number): Random => {
  const generator = Xoshiro128.fromSeed(seed);
  return () => generator.next();
};

function openDevice({ isa = "scalar", threads = 1 }: Execution = scalar): DeviceHandle {
  const device = native.deviceOpen("cpu", isa, threads);
  onTestFinished(() => native.free(device));
  return device;
}

/** A native cache, all of whose blocks are read and written together. */
class Cache implements Disposable {
  readonly handle: CacheHandle;

  constructor(
    device: DeviceHandle,
    readonly shape: CacheShape,
    readonly blocks: number,
  ) {
    this.handle = native.cacheCreate(device, shape, blocks);
  }

  async read(blocks: Int32Array = iota(this.blocks)): Promise<Uint8Array> {
    const bytes = new Uint8Array(blocks.length * blockBytes(this.shape));
    await native.cacheRead(this.handle, blocks, bytes);
    return bytes;
  }

  async write(bytes: Uint8Array, blocks: Int32Array = iota(this.blocks)): Promise<void> {
    await native.cacheWrite(this.handle, blocks, bytes);
  }

  /** Fills it with numbers that are nearly all different, and returns their bytes. */
  async fill(next: Random): Promise<Uint8Array> {
    const bytes = randomBlocks(this.shape, this.blocks, next);
    await this.write(bytes);
    return bytes;
  }

  [Symbol.dispose](): void {
    native.free(this.handle);
  }
}

/** Blocks as cacheRead gives them. */
const randomBlocks = (shape: CacheShape, blocks: number, next: Random): Uint8Array =>
  blocksToBytes(randomLayer(asOneLayer(shape, blocks), next));

/** Where a slot's key and value begin: for each layer and head, in {@link bytesToBlocks}. */
function placesOf({ layers, kvHeads }: CacheShape, slot: number): Place[] {
  const [block, place] = [Math.floor(slot / blockTokens), slot % blockTokens];
  return Array.from({ length: layers * kvHeads }, (_, i) => ({ head: block * layers * kvHeads + i, place, d: 0 }));
}

/** The blocks with what they have of each slot copied, one after another. */
function copied(shape: CacheShape, before: Uint8Array, from: Int32Array, to: Int32Array): Uint8Array {
  const after = bytesToBlocks(shape, before);
  const sides = [sideOf(after, "k"), sideOf(after, "v")];
  from.forEach((slot, i) => {
    const targets = placesOf(shape, to[i]!);
    for (const [part, source] of placesOf(shape, slot).entries()) {
      for (const side of sides) {
        const [at, target] = [indicesOf(side, source), indicesOf(side, targets[part]!)];
        for (const [n, index] of target.entries()) side.data[index] = side.data[at[n]!]!;
      }
    }
  });
  return blocksToBytes(after);
}

/** Where all stands that a token has of a head: its dimensions from `d` on and, in q8_0, the scales of their groups. */
function indicesOf(side: KvSide, { head, place, d: first }: Place): number[] {
  const indices: number[] = [];
  for (let d = first; d < side.headDim; d++) {
    const at = { head, place, d };
    indices.push(elementAt(side, at));
    if (side.type === "q8_0" && d % 32 === 0) indices.push(scaleAt(side, at), scaleAt(side, at) + 1);
  }
  return indices;
}

const shapes: fc.Arbitrary<CacheShape> = fc
  .record({
    types: cacheTypes,
    layers: fc.constantFrom(1, 2, 3),
    kvHeads: fc.constantFrom(1, 2, 5),
    headDim: headDims,
  })
  .map(({ types, ...rest }) => ({ ...types, ...rest }));

/** Blocks of a cache: mostly few, or so many that they are in two of the arena's groups of 32. */
const blockCounts = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }) },
  fc.integer({ min: 33, max: 40 }),
);

/** A sequence's slots, by its tokens, in blocks in random order. */
function slotsOf(tokens: number, blocks: number, next: Random): Int32Array {
  const table = shuffled(blocks, next);
  return Int32Array.from({ length: tokens }, (_, i) => table[i >> 4]! * blockTokens + (i % blockTokens));
}

/** Moves in any order of any slots that are allowed: none is written twice, or read after it was written. */
function anyMoves(blocks: number, next: Random): { from: Int32Array; to: Int32Array } {
  const slots = blocks * blockTokens;
  const to = Int32Array.from(shuffled(slots, next).slice(0, next() % Math.min(slots, 100)));
  const written = new Set<number>();
  const from = to.map((target) => {
    let slot = next() % slots;
    while (written.has(slot)) slot = next() % slots;
    written.add(target);
    return slot;
  });
  return { from, to };
}

/** The moves that a sequence needs that lost the tokens [at, at + removed). */
function slideDown(slots: Int32Array, at: number, removed: number): { from: Int32Array; to: Int32Array } {
  return { from: slots.slice(at + removed), to: slots.slice(at, slots.length - removed) };
}

describe("cacheRead and cacheWrite", () => {
  test.each(executions)(
    "$isa with $threads threads: what was written comes back, and nothing else",
    async (execution) => {
      await fc.assert(
        fc.asyncProperty(shapes, blockCounts, random, async (shape, blocks, next) => {
          using cache = new Cache(openDevice(execution), shape, blocks);
          const before = await cache.fill(next);
          expectSameBits(await cache.read(), before);

          const some = Int32Array.from(shuffled(blocks, next).slice(0, 1 + (next() % blocks)));
          const size = before.length / blocks;
          const fresh = randomBlocks(shape, some.length, next);
          await cache.write(fresh, some);
          const after = before.slice();
          for (const [i, block] of some.entries()) after.set(fresh.subarray(i * size, (i + 1) * size), block * size);
          expectSameBits(await cache.read(), after);
          expectSameBits(await cache.read(some), fresh);
        }),
        { numRuns: 20 },
      );
    },
  );

  test("a block may be read twice, and no block at all", async () => {
    using cache = new Cache(openDevice(), { keys: "f32", values: "f32", layers: 2, kvHeads: 1, headDim: 8 }, 2);
    const all = await cache.fill(seeded(1));
    const half = all.length / 2;
    const twice = await cache.read(Int32Array.of(1, 1));
    expectSameBits(twice.subarray(0, half), all.subarray(half));
    expectSameBits(twice.subarray(half), all.subarray(half));
    expect(await cache.read(new Int32Array(0))).toHaveLength(0);
  });

  test("the order is that of the documentation: what a program writes is where it says", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, blockCounts, random, async (shape, blocks, next) => {
        const written = await writeAt(shape, blocks, { positions: iota(blocks * blockTokens), next });
        expectSameBits(await written.cache.read(), blocksToBytes(inOrder(shape, written.layers)));
        written.cache[Symbol.dispose]();
      }),
      { numRuns: 20 },
    );
  });

  test("refuse what does not fit", async () => {
    using cache = new Cache(openDevice(), { keys: "f16", values: "f16", layers: 1, kvHeads: 1, headDim: 8 }, 4);
    const bytes = (blocks: number) => new Uint8Array(512 * blocks);
    for (const copy of [native.cacheRead, native.cacheWrite]) {
      const refused = (blocks: Int32Array, array: Uint8Array) =>
        expect((async () => copy(cache.handle, blocks, array))()).rejects;
      const name = copy === native.cacheRead ? "out" : "bytes";
      await refused(Int32Array.of(0, 4), bytes(2)).toMatchObject({
        name: "RangeError",
        code: "ERR_CRIA_ARGUMENT",
        message: "blocks[1]: must be from 0 to 4 - 1, not 4",
      });
      await refused(Int32Array.of(-1), bytes(1)).toMatchObject({
        message: "blocks[0]: must be from 0 to 4 - 1, not -1",
      });
      await refused(Int32Array.of(1), bytes(2)).toMatchObject({
        name: "RangeError",
        message: `${name}: its length must be 512, not 1024`,
      });
      await refused(Int32Array.of(1), bytes(0)).toMatchObject({
        message: `${name}: its length must be 512, not 0`,
      });
    }
    await expect(native.cacheWrite(cache.handle, Int32Array.of(2, 1, 2), bytes(3))).rejects.toMatchObject({
      message: "blocks: must name each block once, not 2 twice",
    });
  });

  test("an array that is detached meanwhile is not written to", async () => {
    using cache = new Cache(openDevice(), { keys: "f16", values: "f16", layers: 1, kvHeads: 1, headDim: 8 }, 1);
    const out = new Uint8Array(512);
    const reading = native.cacheRead(cache.handle, Int32Array.of(0), out);
    structuredClone(out, { transfer: [out.buffer as ArrayBuffer] });
    await expect(reading).rejects.toMatchObject({ name: "TypeError", message: "out: must not be detached" });
  });
});

type Turn = Omit<RopeOptions, "rotaryDim"> & { share: number; ownFrequencies: boolean };

const turns: fc.Arbitrary<Turn> = fc.record({
  heads: fc.constant(0),
  halves: fc.boolean(),
  theta: fc.constantFrom(10_000, 500_000),
  scale: fc.constantFrom(1, 4),
  ownFrequencies: fc.boolean(),
  magnitude: fc.constantFrom(0, 1, 1.5),
  share: fc.double({ min: 0, max: 1, noNaN: true }),
});

function turnOf({ share, ownFrequencies, ...turn }: Turn, { headDim }: CacheShape): RopeOptions {
  const rotaryDim = 2 + 2 * Math.floor((share * (headDim - 2)) / 2);
  const frequencies = Float64Array.from({ length: rotaryDim / 2 }, (_, i) => 1 / (1 + 3 * i));
  return { ...turn, rotaryDim, ...(ownFrequencies ? { frequencies } : {}) };
}

describe("cacheMove", () => {
  test.each(executions)("$isa with $threads threads copies slots bit for bit, in any order", async (execution) => {
    await fc.assert(
      fc.asyncProperty(shapes, blockCounts, random, async (shape, blocks, next) => {
        using cache = new Cache(openDevice(execution), shape, blocks);
        const before = await cache.fill(next);
        const { from, to } = anyMoves(blocks, next);
        await native.cacheMove(cache.handle, from, to, 0, undefined);
        expectSameBits(await cache.read(), copied(shape, before, from, to));
      }),
      { numRuns: 30 },
    );
  });

  test.each(executions)("$isa with $threads threads copies whole blocks, and slides tokens down", async (execution) => {
    await fc.assert(
      fc.asyncProperty(shapes, blockCounts, random, async (shape, blocks, next) => {
        using cache = new Cache(openDevice(execution), shape, blocks);
        let expected = await cache.fill(next);
        const slots = slotsOf(1 + (next() % (blocks * blockTokens)), blocks, next);
        const at = next() % slots.length;
        const removed = next() % (slots.length - at);
        const moves = [slideDown(slots, at, removed)];
        if (blocks > 1)
          moves.push({ from: iota(blockTokens), to: iota(blockTokens).map((slot) => slot + blockTokens) });
        for (const { from, to } of moves) {
          await native.cacheMove(cache.handle, from, to, 0, undefined);
          expected = copied(shape, expected, from, to);
        }
        expectSameBits(await cache.read(), expected);
      }),
      { numRuns: 20 },
    );
  });

  test("turns keys to where they would have been written, and leaves values as they are", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, turns, fc.integer({ min: 1, max: 40 }), random, async (shape, turn, removed, next) => {
        const tokens = 64;
        const options = turnOf(turn, shape);
        const blocks = tokens / blockTokens;
        const seed = next();
        const write = (shift: number) => {
          const positions = iota(tokens).map((i) => i + 100 + shift);
          return writeAt(shape, blocks, { positions, next: seeded(seed), turn: options });
        };
        const [moved, direct] = [await write(0), await write(-removed)];
        const table = iota(tokens);
        await native.cacheMove(moved.cache.handle, table, table, -removed, options);
        const [actual, expected] = [await moved.cache.read(), await direct.cache.read()];
        expectTurned(bytesToBlocks(shape, actual), bytesToBlocks(shape, expected));
        moved.cache[Symbol.dispose]();
        direct.cache[Symbol.dispose]();
      }),
      { numRuns: 40 },
    );
  });

  test("turns slots on their way, those of the dimensions that turn alone", async () => {
    await fc.assert(
      fc.asyncProperty(shapes, blockCounts, turns, random, async (shape, blocks, turn, next) => {
        using cache = new Cache(openDevice(), shape, blocks);
        const before = await cache.fill(next);
        const { from, to } = anyMoves(blocks, next);
        const options = turnOf(turn, shape);
        await native.cacheMove(cache.handle, from, to, 7, options);
        const moved = await cache.read();

        // The same in two steps: copies, and a turn of each in its place.
        await cache.write(before);
        await native.cacheMove(cache.handle, from, to, 0, undefined);
        await native.cacheMove(cache.handle, to, to, 7, options);
        expectSameBits(moved, await cache.read());
        const copies = bytesToBlocks(shape, copied(shape, before, from, to));
        // Dimensions of q8_0 have what turns with them in a group quantised again.
        const still = shape.keys === "q8_0" ? 32 * Math.ceil(options.rotaryDim / 32) : options.rotaryDim;
        const actual = bytesToBlocks(shape, moved);
        for (const slot of to) {
          for (const place of placesOf(shape, slot)) {
            expectSameAt(indicesOf(sideOf(copies, "k"), { ...place, d: still }), actual.k, copies.k);
          }
        }
        expectSameBits(actual.v, copies.v);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", async (execution) => {
    await fc.assert(
      fc.asyncProperty(shapes, blockCounts, turns, random, async (shape, blocks, turn, next) => {
        using cache = new Cache(openDevice(execution), shape, blocks);
        using specified = new Cache(openDevice(), shape, blocks);
        await specified.write(await cache.fill(next));
        const shift = 1 - (next() % 5000);
        for (const { from, to } of [
          anyMoves(blocks, next),
          slideDown(slotsOf(blocks * blockTokens, blocks, next), 3, 5),
        ]) {
          for (const { handle } of [cache, specified]) {
            await native.cacheMove(handle, from, to, shift, turnOf(turn, shape));
          }
        }
        expectSameBits(await cache.read(), await specified.read());
      }),
      { numRuns: 30 },
    );
  });

  test("refuses slots that are none, that come twice, or that were written before they are read", async () => {
    using cache = new Cache(openDevice(), { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 }, 2);
    const options = { heads: 0, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };
    const refused = (from: number[], to: number[], shift = 0, rope: unknown = undefined) =>
      expect(
        (async () =>
          native.cacheMove(cache.handle, Int32Array.from(from), Int32Array.from(to), shift, rope as RopeOptions))(),
      ).rejects;
    const before = await cache.fill(seeded(1));
    await refused([1], [1, 2]).toMatchObject({ message: "to: its length must be 1, not 2" });
    await refused([1, 32], [2, 3]).toMatchObject({
      name: "RangeError",
      code: "ERR_CRIA_ARGUMENT",
      message: "from[1]: must be from 0 to 32 - 1, not 32",
    });
    await refused([1], [-1]).toMatchObject({ message: "to[0]: must be from 0 to 32 - 1, not -1" });
    await refused([1, 2], [3, 3]).toMatchObject({ message: "to: must name each slot once, not 3 twice" });
    await refused([0, 1], [1, 2]).toMatchObject({
      message: "from: must name no slot that was moved to before, not 1, to which move 0 goes, for move 1",
    });
    await refused([1], [0], -1).toMatchObject({ name: "TypeError", message: "rope: must be an object, not undefined" });
    await refused([1], [0], 0.5, options).toMatchObject({ message: "shift: must be a 32-bit integer, not 0.5" });
    const wrong = (changes: object, message: string) =>
      refused([1], [0], -1, { ...options, ...changes }).toMatchObject({ name: "RangeError", message });
    await wrong({ rotaryDim: 10 }, "rope.rotaryDim: must be even, from 2 to headDim 8, not 10");
    await wrong({ rotaryDim: 3 }, "rope.rotaryDim: must be even, from 2 to headDim 8, not 3");
    await wrong({ theta: 0 }, "rope.theta: must be above 0, not 0");
    await wrong({ scale: Number.NaN }, "rope.scale: must be above 0, not nan");
    await wrong({ magnitude: -1 }, "rope.magnitude: must be from 0 to 65536, not -1");
    await wrong({ frequencies: new Float64Array(3) }, "rope.frequencies: its length must be 4, not 3");
    await wrong(
      { frequencies: Float64Array.of(1, 1, 1, Number.POSITIVE_INFINITY) },
      "rope.frequencies[3]: must be from 0 to 2^64, not inf",
    );
    expectSameBits(await cache.read(), before);
    await native.cacheMove(cache.handle, Int32Array.of(1, 2), Int32Array.of(0, 1), 0, undefined); // the order that slides
  });
});

/** Fails unless both hold the same there. An expect for each would take most of the tests' time. */
function expectSameAt(places: readonly number[], actual: KvLayer["k"], expected: KvLayer["k"]): void {
  const wrong = places.find((at) => !Object.is(actual[at], expected[at]));
  if (wrong !== undefined) expect.fail(`at ${wrong}: ${actual[wrong]}, not ${expected[wrong]}`);
}

/** Fails unless the values are the same, and the keys to what rounding them twice costs. */
function expectTurned(actual: KvLayer, expected: KvLayer): void {
  expectSameBits(actual.v, expected.v);
  const [keys, wanted] = [sideOf(actual, "k"), sideOf(expected, "k")];
  for (let head = 0; head < actual.blocks * actual.kvHeads; head++) {
    for (let place = 0; place < blockTokens; place++) {
      const read = (side: KvSide) => Array.from({ length: side.headDim }, (_, d) => widened(side, { head, place, d }));
      const key = read(wanted);
      const tolerance = turnTolerance(actual.keys, key);
      for (const [d, x] of read(keys).entries()) {
        if (Math.abs(x - key[d]!) <= tolerance) continue;
        expect.fail(`head ${head}, place ${place}, dimension ${d}: ${x}, not ${key[d]} ± ${tolerance}`);
      }
    }
  }
}

/**
 * What a key that was rounded, turned and rounded again may differ by from one rounded once.
 *
 * A turn adds two products, each no larger than the key. In f32 its angle's sine and cosine, and the three angles'
 * difference, are as uncertain: 8 half units of 2^-24. In f16 it is the rounding before the turn and the one after.
 *
 * In q8_0 each rounding costs half a step, 1/254 of the key's largest. Before the turn that largest may be √2 times
 * what it is after, and the errors of a pair add up to √2 times one of them: with the rounding after the turn, and that
 * of the other key, 2 + 1 + 1 halves. Scales in f16, and a largest that is itself as uncertain, add 15 % at most.
 */
function turnTolerance(type: CacheType, key: readonly number[]): number {
  if (type === "q8_0") return (2.3 / 127) * Math.max(...key.map(Math.abs));
  return (type === "f32" ? 8 * 2 ** -24 : 2.5 * 2 ** -11) * Math.hypot(...key) + 2 ** -24;
}

/**
 * A cache to which a program wrote random keys and values at the positions, token i in slot i, and the layers to which
 * the kernel wrote the same.
 */
async function writeAt(
  shape: CacheShape,
  blocks: number,
  { positions, next, turn }: { positions: Int32Array; next: Random; turn?: RopeOptions },
): Promise<{ cache: Cache; layers: KvLayer[] }> {
  const { layers: count, kvHeads, headDim } = shape;
  const options: RopeOptions = {
    ...(turn ?? { rotaryDim: headDim, halves: false, theta: 10_000, scale: 1 }),
    heads: kvHeads,
  };
  const tokens = positions.length;
  const width = 3 * kvHeads * headDim;
  const draw = () => Float32Array.from({ length: tokens * width }, () => next() / 2 ** 31 - 1);
  const rows = Array.from({ length: count }, draw);
  const device = openDevice();

  const program = native.programCreate(device, shape);
  const qkv = native.programValue(program, "tokens", width);
  const result = native.programValue(program, "outputs", width);
  for (const [layer, { buffer }] of rows.entries()) {
    const table = native.matrixCreate(device, "f32", tokens, width);
    native.tensorPack(table, 0, tokens, new Uint8Array(buffer));
    native.programEmbed(program, table, qkv);
    native.programRope(program, qkv, layer, options);
    native.free(table);
  }
  native.programSelect(program, qkv, result);
  native.programFinish(program, result);

  const cache = new Cache(device, shape, blocks);
  const batch = {
    tokens: iota(tokens),
    positions,
    lengths: Int32Array.of(tokens),
    pasts: Int32Array.of(0),
    blockCounts: Int32Array.of(blocks),
    blocks: iota(blocks),
    outputs: new Int32Array(0),
  };
  await native.programRun(program, cache.handle, batch, width, undefined);
  native.free(program);

  const layers = Array.from({ length: count }, () => kvLayer(asOneLayer({ ...shape, layers: 1 }, blocks), () => 0));
  const sequences = [{ length: tokens, past: 0, blocks: [...iota(blocks)] }];
  const { halves, magnitude, ...turned } = options;
  const pairing = halves ? "halves" : "adjacent";
  const whole = { ...turned, pairing, magnitude: magnitude || 1 } as const;
  for (const [i, layer] of layers.entries()) {
    rope({ qkv: rows[i]!, positions, sequences, cache: layer, ...whole, ...scalar });
  }
  return { cache, layers };
}

/** Layers as the one that {@link bytesToBlocks} makes of a cache. */
function inOrder(shape: CacheShape, layers: readonly KvLayer[]): KvLayer {
  const { blocks } = layers[0]!;
  const together = kvLayer(asOneLayer(shape, blocks), () => 0);
  for (const [l, layer] of layers.entries()) {
    for (const name of ["k", "v"] as const) {
      const size = layer[name].length / blocks;
      for (let block = 0; block < blocks; block++) {
        together[name].set(layer[name].subarray(block * size, (block + 1) * size), (block * layers.length + l) * size);
      }
    }
  }
  return together;
}
