import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type CacheType, type Execution, type KvLayer, type RopeOptions, rope } from "../lib/kernels.js";
import { random, randomFloats } from "./support/arbitraries.js";
import { expectArgumentError, expectClose, expectSameBits } from "./support/compare.js";
import { toHalf } from "./support/half.js";
import { executions, scalar } from "./support/isas.js";
import {
  cacheTypes,
  elementAt,
  headDims,
  headShapes,
  type KvSide,
  kvLayer,
  placeSequences,
  readKey,
  readValue,
  setScale,
  sideOf,
} from "./support/kv.js";

type Problem = Omit<RopeOptions, keyof Execution> & { rotaryDim: number; theta: number; scale: number };

/** What the cache holds before: a number that no test computes, exact in f32 and as bits of f16. */
const untouched = 12_345;

const copy = (problem: Problem): Problem => ({
  ...problem,
  qkv: problem.qkv.slice(),
  cache: { ...problem.cache, k: problem.cache.k.slice(), v: problem.cache.v.slice() },
});

/** The operands as a run leaves them. */
function run(execution: Execution, problem: Problem): Problem {
  const turned = copy(problem);
  rope({ ...turned, ...execution });
  return turned;
}

function expectSame(actual: Problem, expected: Problem): void {
  expectSameBits(actual.qkv, expected.qkv);
  expectSameBits(actual.cache.k, expected.cache.k);
  expectSameBits(actual.cache.v, expected.cache.v);
}

/** qkv with q and k turned in float64 (Su et al. 2021, eq. 34), and the magnitudes that each value comes from. */
function exact(problem: Problem): { turned: Float64Array; size: Float64Array } {
  const { qkv, positions, cache, heads, rotaryDim, pairing, theta, scale, frequencies, magnitude = 1 } = problem;
  const { kvHeads, headDim } = cache;
  const turned = Float64Array.from(qkv);
  const size = Float64Array.from(qkv, Math.abs);
  positions.forEach((position, t) => {
    for (let head = 0; head < heads + kvHeads; head++) {
      const base = (t * (heads + 2 * kvHeads) + head) * headDim;
      for (let i = 0; i < rotaryDim / 2; i++) {
        const [a, b] = pairing === "halves" ? [base + i, base + i + rotaryDim / 2] : [base + 2 * i, base + 2 * i + 1];
        const angle = frequencies ? position * frequencies[i]! : (position / scale) * theta ** ((-2 * i) / rotaryDim);
        turned[a] = magnitude * (qkv[a]! * Math.cos(angle) - qkv[b]! * Math.sin(angle));
        turned[b] = magnitude * (qkv[a]! * Math.sin(angle) + qkv[b]! * Math.cos(angle));
        size[a] = size[b] = magnitude * (Math.abs(qkv[a]!) + Math.abs(qkv[b]!));
      }
    }
  });
  return { turned, size };
}

const problem: fc.Arbitrary<Problem> = fc
  .record({
    lengths: fc.array(fc.record({ length: fc.nat(20), past: fc.nat(40) }), { maxLength: 4 }),
    shape: headShapes,
    headDim: headDims,
    turning: fc.double({ min: 0, max: 1, noNaN: true }),
    types: cacheTypes,
    pairing: fc.constantFrom("adjacent" as const, "halves" as const),
    theta: fc.constantFrom(10_000, 1e6, 500_000),
    scale: fc.constantFrom(1, 4, 0.5),
    ownFrequencies: fc.boolean(),
    magnitude: fc.constantFrom(undefined, 1, 1.25),
    // Up to the longest context that a model's file may name.
    positions: fc.constantFrom(5000, 2 ** 24),
    next: random,
  })
  .map(({ lengths, shape, headDim, turning, types, pairing, theta, scale, next, ...given }) => {
    const { sequences, blocks } = placeSequences(lengths, next() % 3, next);
    const tokens = lengths.reduce((sum, { length }) => sum + length, 0);
    const cache = kvLayer({ ...types, blocks, kvHeads: shape.kvHeads, headDim }, () => untouched);
    const rotaryDim = 2 + 2 * Math.floor((turning * (headDim - 2)) / 2);
    const frequencies = Float64Array.from({ length: rotaryDim / 2 }, () => (next() % 8 === 0 ? 0 : next() / 2 ** 31));
    return {
      qkv: randomFloats(tokens * (shape.heads + 2 * shape.kvHeads) * headDim, next),
      positions: Int32Array.from({ length: tokens }, () => next() % given.positions),
      sequences,
      cache,
      heads: shape.heads,
      rotaryDim,
      pairing,
      theta,
      scale,
      ...(given.ownFrequencies ? { frequencies } : {}),
      ...(given.magnitude === undefined ? {} : { magnitude: given.magnitude }),
    };
  });

describe("rope", () => {
  test("turns q and k as the paper does, to float32's accuracy, and leaves v as it is", () => {
    fc.assert(
      fc.property(problem, (given) => {
        const { turned, size } = exact(given);
        // Two products and a sum, of operands that are rounded themselves: 4 · 2^-24 of the two magnitudes.
        expectClose(run(scalar, given).qkv, turned, (i) => 2.5e-7 * size[i]! + 2 ** -148);
      }),
      { numRuns: 50 },
    );
  });

  test.each(executions)(
    "$isa with $threads threads writes k and v where the table says, and nothing else",
    (execution) => {
      fc.assert(
        fc.property(problem, (given) => {
          const { qkv, cache } = run(execution, given);
          const expected = cacheAfter(given, qkv);
          expectSameBits(cache.k, expected.k);
          expectSameBits(cache.v, expected.v);
        }),
        { numRuns: 20 },
      );
    },
  );

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", (execution) => {
    fc.assert(
      fc.property(problem, (given) => expectSame(run(execution, given), run(scalar, given))),
      { numRuns: 50 },
    );
  });

  test.each(executions)("$isa with $threads threads gives a sequence the bits that it has alone", (execution) => {
    fc.assert(
      fc.property(problem, (given) => {
        const together = run(execution, given);
        const apart = copy(given);
        let first = 0;
        for (const sequence of given.sequences) {
          const width = (given.heads + 2 * given.cache.kvHeads) * given.cache.headDim;
          const last = first + sequence.length;
          const qkv = apart.qkv.subarray(first * width, last * width);
          rope({
            ...apart,
            sequences: [sequence],
            qkv,
            positions: given.positions.subarray(first, last),
            ...execution,
          });
          first = last;
        }
        expectSame(together, apart);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads writes q8_0 that is read back as it was", (execution) => {
    const shapes = fc.record({
      headDim: headDims,
      tokens: fc.integer({ min: 1, max: 20 }),
      // The least has subnormal scales. Of groups below 127 / 2^25 the scale is 0, which gives no quants back.
      size: fc.constantFrom(1e-4, 1e-3, 1, 1e6),
    });
    fc.assert(
      fc.property(shapes, random, ({ headDim, tokens, size }, next) => {
        const given: Problem = {
          qkv: Float32Array.from({ length: tokens * 3 * headDim }, () => size * (next() / 2 ** 31 - 1)),
          positions: new Int32Array(tokens), // position 0 turns by nothing
          sequences: [{ length: tokens, past: 0, blocks: [1, 0] }],
          cache: kvLayer({ keys: "q8_0", values: "q8_0", blocks: 2, kvHeads: 1, headDim }, () => 0),
          heads: 1,
          rotaryDim: headDim,
          pairing: "adjacent",
          theta: 10_000,
          scale: 1,
        };
        const { cache } = run(execution, given);
        const again = copy(given);
        for (let token = 0; token < tokens; token++) {
          const k = (3 * token + 1) * headDim;
          again.qkv.set(readKey(cache, given.sequences[0]!, token, 0), k);
          again.qkv.set(readValue(cache, given.sequences[0]!, token, 0), k + headDim);
        }
        const twice = run(execution, again).cache;
        expectSameBits(twice.k, cache.k);
        expectSameBits(twice.v, cache.v);
      }),
      { numRuns: 20 },
    );
  });

  test("knows where a token stands by the cache's past, and how far to turn it by its position alone", () => {
    const given = sample({ past: 3, length: 2, position: 0 });
    const { qkv, cache } = run({}, given);
    expectSameBits(qkv, given.qkv); // position 0 turns by nothing
    expect(readKey(cache, given.sequences[0]!, 3, 0)).toEqual(Array.from(qkv.subarray(8, 16)));
    expect(readValue(cache, given.sequences[0]!, 4, 0)).toEqual(Array.from(qkv.subarray(24 + 16, 24 + 24)));
    expect(cache.k.filter((value) => value !== untouched).length).toBe(16);
  });

  test("takes frequencies of theta's own for theta", () => {
    fc.assert(
      fc.property(problem, (given) => {
        const { frequencies: _, ...plain } = given;
        const { rotaryDim, theta, scale } = plain;
        // What csrc/core/rope.cc computes. JavaScript's power is within an ulp of C's, far below what float32 keeps.
        const own = Float64Array.from({ length: rotaryDim / 2 }, (_, i) => theta ** ((-2 * i) / rotaryDim) / scale);
        const near = plain.positions.map((position) => position % 5000);
        const [one, other] = [
          { ...plain, positions: near },
          { ...plain, positions: near, frequencies: own },
        ];
        const { size } = exact(one);
        expectClose(run(scalar, other).qkv, run(scalar, one).qkv, (i) => 2.5e-7 * size[i]! + 2 ** -148);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads lets NaN through", (execution) => {
    for (const type of ["f32", "f16", "q8_0"] as const) {
      const given = sample({ past: 0, length: 2, position: 1, type });
      given.qkv.fill(Number.NaN, 24);
      const { qkv, cache } = run(execution, given);
      expect(qkv.subarray(24).every(Number.isNaN)).toBe(true);
      expect(qkv.subarray(0, 24).some(Number.isNaN)).toBe(false);
      expect(readKey(cache, given.sequences[0]!, 1, 0).every(Number.isNaN)).toBe(true);
      expect(readValue(cache, given.sequences[0]!, 1, 0).every(Number.isNaN)).toBe(true);
    }
  });

  test("names the argument that is wrong", () => {
    const good = sample({ past: 14, length: 4, position: 0 });
    const { cache } = good;
    const wrong = (changes: object, error: Error) => expectArgumentError(() => rope({ ...good, ...changes }), error);
    const wrongCache = (changes: object, error: Error) => wrong({ cache: { ...cache, ...changes } }, error);
    const wrongSequence = (changes: object, error: Error) =>
      wrong({ sequences: [{ length: 4, past: 14, blocks: [0, 1], ...changes }] }, error);

    wrong({ qkv: new Float32Array(95) }, new RangeError("qkv: its length must be 96, not 95"));
    wrong({ qkv: new Uint16Array(96) }, new TypeError("qkv: must be a Float32Array, not a Uint16Array"));
    wrong({ positions: [0, 0, 0, 0] }, new TypeError("positions: must be an Int32Array, not Array"));
    wrong({ positions: new Int32Array(3) }, new RangeError("positions.length: must be the sequences' 4, not 3"));
    wrong({ positions: Int32Array.of(0, 1, -2, 3) }, new RangeError("positions[2]: must be at least 0, not -2"));
    wrong({ heads: 0 }, new RangeError("heads: must be an integer from 1 to 2147483647, not 0"));
    wrong({ heads: undefined }, new TypeError("heads: must be a number, not undefined"));
    wrong({ rotaryDim: 3 }, new RangeError("rotaryDim: must be even, not 3"));
    wrong({ rotaryDim: 10 }, new RangeError("rotaryDim: must be an integer from 2 to 8, not 10"));
    wrong({ pairing: "odd" }, new RangeError('pairing: must be adjacent or halves, not "odd"'));
    wrong({ theta: 0 }, new RangeError("theta: must be above 0 and finite, not 0"));
    wrong({ theta: Number.NaN }, new RangeError("theta: must be above 0 and finite, not NaN"));
    wrong({ magnitude: 0 }, new RangeError("magnitude: must be above 0 and finite, not 0"));
    wrong({ frequencies: [1, 1, 1, 1] }, new TypeError("frequencies: must be a Float64Array, not Array"));
    wrong({ frequencies: new Float64Array(3) }, new RangeError("frequencies.length: must be rotaryDim / 2, 4, not 3"));
    const oneWrong = (x: number) => Float64Array.of(1, 0, 1, x);
    wrong(
      { frequencies: oneWrong(Number.NaN) },
      new RangeError("frequencies[3]: must be finite, and at least 0, not NaN"),
    );
    wrong({ frequencies: oneWrong(-1) }, new RangeError("frequencies[3]: must be finite, and at least 0, not -1"));
    wrong({ scale: Number.POSITIVE_INFINITY }, new RangeError("scale: must be above 0 and finite, not Infinity"));

    wrong({ cache: undefined }, new TypeError("cache: must be an object, not undefined"));
    wrongCache({ keys: "q4_0" }, new RangeError('cache.keys: must be one of f32, f16, q8_0, not "q4_0"'));
    wrongCache({ values: undefined }, new TypeError("cache.values: must be a string, not undefined"));
    wrongCache({ keys: "f16" }, new TypeError("cache.k: must be a Uint16Array, not a Float32Array"));
    wrongCache({ values: "q8_0" }, new TypeError("cache.v: must be a Uint8Array, not a Float32Array"));
    wrongCache(
      { keys: "q8_0", k: new Uint8Array(256) },
      new RangeError("cache.k: its length must be 320, not 256"), // 16 scales of two bytes behind each 128
    );
    wrongCache(
      { keys: "q8_0", k: new Uint8Array(321).subarray(1) },
      new RangeError("cache.k: must begin at an even byte of its buffer, for its scales"),
    );
    wrongCache({ k: cache.k.subarray(1) }, new RangeError("cache.k: its length must be 256, not 255"));
    wrongCache({ v: cache.k }, new RangeError("cache.v: must not overlap cache.k"));
    wrongCache({ blocks: 1.5 }, new RangeError("cache.blocks: must be an integer of at least 0, not 1.5"));
    wrongCache({ kvHeads: 2 }, new RangeError("heads: must be a multiple of cache.kvHeads 2, not 1"));
    const twelve = { headDim: 12, k: new Float32Array(384), v: new Float32Array(384) };
    const message = "cache.headDim: must be a multiple of 8, at most 256, not 12";
    expectArgumentError(
      () => rope({ ...good, qkv: new Float32Array(144), cache: { ...cache, ...twelve } }),
      new RangeError(message),
    );

    wrong({ sequences: {} }, new TypeError("sequences: must be an array, not Object"));
    wrong({ sequences: [null] }, new TypeError("sequences[0]: must be an object, not null"));
    wrongSequence(
      { length: -1 },
      new RangeError("sequences[0].length: must be an integer from 0 to 2147483647, not -1"),
    );
    wrongSequence(
      { past: 2 ** 53 },
      new RangeError(`sequences[0].past: must be an integer from 0 to 2147483647, not ${2 ** 53}`),
    );
    wrongSequence({ blocks: [0] }, new RangeError("sequences[0].blocks.length: must be at least 2, not 1"));
    wrongSequence({ blocks: [0, 2] }, new RangeError("sequences[0].blocks[1]: must be an integer from 0 to 1, not 2"));
    wrongSequence({ blocks: "01" }, new TypeError('sequences[0].blocks: must be an array, not "01"'));
    wrongSequence(
      { blocks: [1, 1] },
      new RangeError("sequences[0].blocks[1]: must be a block that no other new tokens are written to, not 1"),
    );
    const detached = cache.v.slice();
    structuredClone(detached, { transfer: [detached.buffer as ArrayBuffer] });
    wrongCache({ v: detached }, new TypeError("cache.v: must not be detached"));
  });
});

/** One head of eight dimensions, one sequence in two blocks. */
function sample(options: { past: number; length: number; position: number; type?: CacheType }): Problem {
  const { past, length, position, type = "f32" } = options;
  return {
    qkv: Float32Array.from({ length: length * 24 }, (_, i) => i + 1),
    positions: new Int32Array(length).fill(position),
    sequences: [{ length, past, blocks: [0, 1] }],
    cache: kvLayer({ keys: type, values: type, blocks: 2, kvHeads: 1, headDim: 8 }, () => untouched),
    heads: 1,
    rotaryDim: 8,
    pairing: "adjacent",
    theta: 10_000,
    scale: 1,
  };
}

/** The cache, with k and v of a turned qkv in the place of each token. */
function cacheAfter({ cache, sequences, heads }: Problem, qkv: Float32Array): Pick<KvLayer, "k" | "v"> {
  const { kvHeads, headDim } = cache;
  const after = { ...cache, k: cache.k.slice(), v: cache.v.slice() };
  const [k, v] = [sideOf(after, "k"), sideOf(after, "v")];
  let row = 0;
  for (const { length, past, blocks } of sequences) {
    for (let token = past; token < past + length; token++, row++) {
      for (let head = 0; head < kvHeads; head++) {
        const from = (row * (heads + 2 * kvHeads) + heads + head) * headDim;
        const place = { head: blocks[token >> 4]! * kvHeads + head, place: token % 16 };
        write(k, place, qkv.subarray(from, from + headDim));
        write(v, place, qkv.subarray(from + kvHeads * headDim, from + (kvHeads + 1) * headDim));
      }
    }
  }
  return after;
}

/** Writes what a token has of a head, in the side's type. */
function write(side: KvSide, place: { head: number; place: number }, x: Float32Array): void {
  for (let group = 0; group < x.length; group += 32) {
    const { quants, scale } = quantised(x.subarray(group, group + 32));
    if (side.type === "q8_0") setScale(side, { ...place, d: group }, scale);
    quants.forEach((quant, i) => {
      const value = x[group + i]!;
      const element = side.type === "f32" ? value : side.type === "f16" ? toHalf(value) : quant & 0xff;
      side.data[elementAt(side, { ...place, d: group + i })] = element;
    });
  }
}

/** GGUF's q8_0: quants, and the bits of their scale. */
function quantised(x: Float32Array): { quants: number[]; scale: number } {
  const largest = x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest < 2 ** -119) return { quants: Array.from(x, () => 0), scale: 0 };
  const inverse = Math.fround(127 / largest);
  return {
    quants: Array.from(x, (value) => nearest(Math.fround(value * inverse))),
    scale: toHalf(Math.fround(largest / 127)),
  };
}

/** The nearest integer, ties to even. */
function nearest(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}
