import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  type AttentionOptions,
  attention,
  type CacheType,
  type Execution,
  type KvLayer,
  rope,
} from "../lib/kernels.js";
import { blockTokens } from "../lib/kv-block.js";
import { Xoshiro128 } from "../lib/random.js";
import { type Random, random, randomFloats } from "./support/arbitraries.js";
import { expectArgumentError, expectClose, expectSameBits } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";
import {
  cacheTypes,
  elementAt,
  headDims,
  headLength,
  headShapes,
  kvLayer,
  placeSequences,
  randomLayer,
  readKey,
  readValue,
  scaleAt,
  shuffled,
  sideOf,
  spoil,
  widened,
} from "./support/kv.js";

type Problem = Omit<AttentionOptions, keyof Execution | "out"> & { qStride: number };

function run(execution: Execution, problem: Problem): Float32Array {
  const tokens = problem.q.length / problem.qStride;
  const out = new Float32Array(tokens * problem.heads * problem.cache.headDim).fill(Number.NaN);
  attention({ ...problem, out, ...execution });
  return out;
}

/** Attention in float64 (Vaswani et al. 2017, eq. 1), and how far float32 may be from it. */
function exact({ q, qStride, sequences, cache, heads }: Problem): { out: number[]; tolerance: number[] } {
  const { headDim, kvHeads } = cache;
  const out: number[] = [];
  const tolerance: number[] = [];
  let row = 0;
  for (const sequence of sequences) {
    const read = (of: typeof readKey) =>
      Array.from({ length: kvHeads }, (_, head) =>
        Array.from({ length: sequence.past + sequence.length }, (_, token) => of(cache, sequence, token, head)),
      );
    const keys = read(readKey);
    const values = read(readValue);
    for (let i = 0; i < sequence.length; i++, row++) {
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor((head * kvHeads) / heads);
        const query = q.subarray(row * qStride + head * headDim, row * qStride + (head + 1) * headDim);
        const seen = keys[kvHead]!.slice(0, sequence.past + i + 1);
        const scores = seen.map((key) => dot(query, key) / Math.sqrt(headDim));
        const largest = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - largest));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        // A score is a chain of headDim sums, and a relative error of exp(score) is an absolute one of the score's; the
        // sums of p and of p v have as many steps as there are keys.
        const size = Math.max(...seen.map((key) => dot(query.map(Math.abs), key.map(Math.abs)))) / Math.sqrt(headDim);
        const relative = 2 ** -23 * (8 + headDim * size + seen.length);
        for (let d = 0; d < headDim; d++) {
          const column = values[kvHead]!.slice(0, seen.length).map((value) => value[d]!);
          out.push(dot(weights, column) / total);
          tolerance.push((relative * dot(weights, column.map(Math.abs))) / total + 2 ** -126);
        }
      }
    }
  }
  return { out, tolerance };
}

const dot = (x: ArrayLike<number>, y: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!;
  return sum;
};

interface Shape {
  lengths: { length: number; past: number }[];
  shape: { heads: number; kvHeads: number };
  headDim: number;
  types: Pick<KvLayer, "keys" | "values">;
  next: Random;
}

/** q at any stride that its heads fit, and a cache of which some blocks belong to no sequence. */
function build({ lengths, shape, headDim, types, next }: Shape): Problem {
  const { sequences, blocks } = placeSequences(lengths, next() % 3, next);
  const tokens = lengths.reduce((sum, { length }) => sum + length, 0);
  const qStride = shape.heads * headDim + (next() % 2) * 24;
  return {
    q: randomFloats(tokens * qStride, next).map((value) => Math.max(-4, Math.min(4, value))),
    qStride,
    sequences,
    cache: randomLayer({ ...types, blocks, kvHeads: shape.kvHeads, headDim }, next),
    heads: shape.heads,
  };
}

// A prompt's task is 32 queries: some have more. The pasts reach into the second and third tile of 64 keys.
const short = fc
  .record({
    lengths: fc.array(
      fc.record({
        length: fc.oneof({ weight: 5, arbitrary: fc.nat(6) }, fc.integer({ min: 31, max: 35 })),
        past: fc.oneof(fc.nat(40), fc.integer({ min: 60, max: 140 })),
      }),
      { maxLength: 3 },
    ),
    shape: headShapes,
    headDim: headDims,
    types: cacheTypes,
    next: random,
  })
  .map(build);

// Contexts around the splits of 512 keys, of one query, which threads share, and of more, which they do not.
const long = fc
  .record({
    lengths: fc.array(
      fc.record({
        length: fc.integer({ min: 1, max: 2 }),
        past: fc.oneof(fc.integer({ min: 509, max: 515 }), fc.integer({ min: 1000, max: 1100 })),
      }),
      { minLength: 1, maxLength: 2 },
    ),
    shape: headShapes,
    headDim: fc.constantFrom(8, 24, 40),
    types: cacheTypes,
    next: random,
  })
  .map(build);

const problem = fc.oneof({ weight: 3, arbitrary: short }, long);

/** Each type as keys and as values, and one with another. */
const typePairs = [
  ["f32", "f32"],
  ["f16", "f16"],
  ["q8_0", "q8_0"],
  ["q8_0", "f16"],
  ["f32", "q8_0"],
] as const;

describe("attention", () => {
  test("is the paper's formula, to float32's accuracy", () => {
    fc.assert(
      fc.property(problem, (given) => {
        const { out, tolerance } = exact(given);
        expectClose(run(scalar, given), out, (i) => tolerance[i]!);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", (execution) => {
    fc.assert(
      fc.property(problem, (given) => expectSameBits(run(execution, given), run(scalar, given))),
      { numRuns: 30 },
    );
  });

  test.each(executions)(
    "$isa with $threads threads has of any type the bits of f32 of the same numbers",
    (execution) => {
      fc.assert(
        fc.property(problem, (given) => {
          expectSameBits(run(execution, { ...given, cache: asFloats(given.cache) }), run(execution, given));
        }),
        { numRuns: 15 },
      );
    },
  );

  test("with q8_0 keys and values is within 1e-4 (NMSE) of f32's, of a layer of 7B", () => {
    const [heads, headDim, tokens] = [32, 128, 304];
    const count = tokens / blockTokens;
    const next = Xoshiro128.fromSeed(7);
    const uniform = () => (next.next() + 1) / 2 ** 32;
    const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()); // Box and Muller
    const qkv = Float32Array.from({ length: tokens * 3 * heads * headDim }, normal);
    const out = (type: CacheType) => {
      const cache = kvLayer({ keys: type, values: type, blocks: count, kvHeads: heads, headDim }, () => 0);
      const sequence = { length: tokens, past: 0, blocks: Array.from({ length: count }, (_, i) => i) };
      const turned = qkv.slice();
      rope({
        qkv: turned,
        positions: Int32Array.from({ length: tokens }, (_, i) => i),
        sequences: [sequence],
        cache,
        heads,
      });
      const out = new Float32Array(tokens * heads * headDim);
      attention({ q: turned, qStride: 3 * heads * headDim, sequences: [sequence], cache, heads, out });
      return out;
    };
    const want = out("f32");
    let [error, size] = [0, 0];
    out("q8_0").forEach((value, i) => {
      error += (value - want[i]!) ** 2;
      size += want[i]! ** 2;
    });
    expect(error / size).toBeLessThanOrEqual(1e-4);
    expect(error / size).toBeGreaterThan(1e-6); // it was q8_0
  });

  // Queries of every number from 1 to 40, so that tiles of rows end at every height, after pasts that put the edge of
  // the causal triangle at any place in a block; heads of whole and of half registers; groups that fill a tile and not.
  test.each([8, 24, 40, 80, 104, 256])("has the scalar kernel's bits at every tile height, head of %i", (headDim) => {
    const next = fc.sample(random, { numRuns: 1, seed: headDim })[0]!;
    let queries = 0;
    for (const group of [1, 3, 8]) {
      for (const [keys, values] of typePairs) {
        const lengths = [1, 3, 15, 17, 63, 65, 129].map((past) => ({ past, length: 1 + (queries++ % 40) }));
        const given = build({ lengths, shape: { heads: group, kvHeads: 1 }, headDim, types: { keys, values }, next });
        const want = run(scalar, given);
        for (const execution of executions) expectSameBits(run(execution, given), want);
      }
    }
  });

  test.each(executions)("$isa with $threads threads gives a token the bits that it has alone", (execution) => {
    fc.assert(
      fc.property(problem, (given) => {
        expectSameBits(
          run(
            execution,
            chunked(given, () => 1),
          ),
          run(execution, given),
        );
      }),
      { numRuns: 15 },
    );
  });

  test.each(executions)("$isa with $threads threads gives a prompt the same bits however it is cut", (execution) => {
    fc.assert(
      fc.property(problem, random, (given, next) => {
        expectSameBits(
          run(
            execution,
            chunked(given, () => 1 + (next() % 9)),
          ),
          run(execution, given),
        );
      }),
      { numRuns: 15 },
    );
  });

  test.each(executions)("$isa with $threads threads does not mind which blocks hold the cache", (execution) => {
    fc.assert(
      fc.property(problem, random, (given, next) => {
        expectSameBits(run(execution, moved(given, next)), run(execution, given));
      }),
      { numRuns: 15 },
    );
  });

  test.each(executions)("$isa with $threads threads reads no key after a query's own", (execution) => {
    fc.assert(
      fc.property(problem, (given) => {
        const want = run(execution, given);
        expectSameBits(run(execution, { ...given, cache: spoiled(given) }), want);
      }),
      { numRuns: 15 },
    );
  });

  test.each(executions)("$isa with $threads threads lets NaN through, in the rows that see it alone", (execution) => {
    for (const type of ["f32", "f16", "q8_0"] as const) {
      const given = sample({ length: 20, past: 0, type });
      for (const side of ["k", "v"] as const) {
        const cache = { ...given.cache, [side]: given.cache[side].slice() };
        spoil(sideOf(cache, side), { head: 0, place: 10 });
        const out = run(execution, { ...given, cache });
        expect(out.subarray(0, 80).some(Number.isNaN)).toBe(false);
        expect(out.subarray(80).every(Number.isNaN)).toBe(true);
      }
      const q = given.q.slice().fill(Number.NaN, 8, 16);
      const out = run(execution, { ...given, q });
      expect(Array.from(out, (value, i) => Number.isNaN(value) === (i >= 8 && i < 16)).every(Boolean)).toBe(true);
    }
  });

  test.each(executions)("$isa with $threads threads is sure where one score towers over the others", (execution) => {
    // Scores of 0 but for one of 1e6: its value is the answer, and exp of the difference neither overflows nor is NaN.
    for (const token of [0, 7, 19, 70, 600]) {
      const given = sample({ length: 1, past: 600, type: "f32" });
      given.q.fill(1000);
      given.cache.k.fill(0);
      const block = Math.floor(token / 16) * 128;
      for (let d = 0; d < 8; d++) given.cache.k[block + d * 16 + (token % 16)] = 1000;
      const want = given.cache.v.subarray(block + (token % 16) * 8, block + (token % 16) * 8 + 8);
      expectClose(run(execution, given), want, () => 1e-6);
    }
  });

  test("names the argument that is wrong", () => {
    const given = sample({ length: 2, past: 15, type: "f16" });
    const good = { ...given, out: new Float32Array(16) };
    const { cache } = given;
    const wrong = (changes: object, error: Error) =>
      expectArgumentError(() => attention({ ...good, ...changes }), error);

    wrong({ out: new Float32Array(15) }, new RangeError("out: its length must be 16, not 15"));
    wrong({ q: new Float32Array(17) }, new RangeError("q: its length must be 16, not 17"));
    wrong({ q: given.cache.k }, new TypeError("q: must be a Float32Array, not a Uint16Array"));
    wrong({ qStride: 7 }, new RangeError("qStride: must be an integer of at least 8, not 7"));
    wrong({ qStride: Number.NaN }, new RangeError("qStride: must be an integer of at least 8, not NaN"));
    wrong({ qStride: 2 ** 52 }, new RangeError(`q: its length must be ${2 ** 53}, not 16`));
    wrong({ heads: -1 }, new RangeError("heads: must be an integer from 1 to 2147483647, not -1"));
    wrong({ out: given.q }, new RangeError("out: must not overlap q"));
    wrong({ cache: { ...cache, keys: "f32" } }, new TypeError("cache.k: must be a Float32Array, not a Uint16Array"));
    wrong(
      { cache: { ...cache, v: cache.v.subarray(0, 200) } },
      new RangeError("cache.v: its length must be 256, not 200"),
    );
    wrong(
      { cache: { ...cache, kvHeads: 2 ** 53 } },
      new RangeError(`cache.kvHeads: must be an integer from 1 to ${Number.MAX_SAFE_INTEGER}, not ${2 ** 53}`),
    );
    wrong({ sequences: [] }, new RangeError("q: its length must be 0, not 16"));
    wrong(
      { sequences: [{ length: 2, past: 15, blocks: Int32Array.of(0, -1) }] },
      new RangeError("sequences[0].blocks[1]: must be an integer from 0 to 1, not -1"),
    );
    wrong(
      { sequences: [{ length: 2, past: 31, blocks: [0, 1] }] },
      new RangeError("sequences[0].blocks.length: must be at least 3, not 2"),
    );
    const detached = new Float32Array(16);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ q: detached }, new TypeError("q: must not be detached"));
    expect(good.out).toEqual(new Float32Array(16));
  });
});

/** One head of eight dimensions, one sequence in blocks that are in order. */
function sample({ length, past, type }: { length: number; past: number; type: CacheType }): Problem {
  const count = Math.ceil((past + length) / blockTokens);
  let value = 0;
  // In q8_0 a scale of a few such bytes, 0x2c2c to 0x2f2f, is about a tenth.
  const next = () =>
    type === "f32" ? Math.fround(Math.sin(value++)) : type === "f16" ? 0x3000 + (value++ % 1024) : 0x2c + (value++ % 4);
  return {
    q: Float32Array.from({ length: length * 8 }, (_, i) => Math.cos(i)),
    qStride: 8,
    sequences: [{ length, past, blocks: Array.from({ length: count }, (_, i) => i) }],
    cache: kvLayer({ keys: type, values: type, blocks: count, kvHeads: 1, headDim: 8 }, next),
    heads: 1,
  };
}

/** The same tokens, each sequence cut into several that share its blocks; the cache holds all tokens already. */
function chunked(given: Problem, size: () => number): Problem {
  const sequences = given.sequences.flatMap(({ length, past, blocks }) => {
    const chunks = [];
    for (let done = 0, count = 0; done < length; done += count) {
      count = Math.min(size(), length - done);
      chunks.push({ length: count, past: past + done, blocks });
    }
    return chunks;
  });
  return { ...given, sequences };
}

/** The same cache with its blocks in another order, and the tables to match. */
function moved(given: Problem, next: Random): Problem {
  const { cache } = given;
  const place = shuffled(cache.blocks, next);
  const k = cache.k.slice();
  const v = cache.v.slice();
  const kSize = cache.kvHeads * headLength(cache.keys, cache.headDim);
  const vSize = cache.kvHeads * headLength(cache.values, cache.headDim);
  place.forEach((to, from) => {
    k.set(cache.k.subarray(from * kSize, (from + 1) * kSize), to * kSize);
    v.set(cache.v.subarray(from * vSize, (from + 1) * vSize), to * vSize);
  });
  const sequences = given.sequences.map((sequence) => ({
    ...sequence,
    blocks: Array.from(sequence.blocks, (block) => place[block]!),
  }));
  return { ...given, cache: { ...cache, k, v }, sequences };
}

/** The same cache in f32. */
function asFloats(cache: KvLayer): KvLayer {
  const floats = kvLayer({ ...cache, keys: "f32", values: "f32" }, () => 0);
  for (const name of ["k", "v"] as const) {
    const [from, to] = [sideOf(cache, name), sideOf(floats, name)];
    for (let head = 0; head < cache.blocks * cache.kvHeads; head++) {
      for (let place = 0; place < blockTokens; place++) {
        for (let d = 0; d < cache.headDim; d++) {
          to.data[elementAt(to, { head, place, d })] = widened(from, { head, place, d });
        }
      }
    }
  }
  return floats;
}

/** The cache with NaN wherever no token of a sequence stands. */
function spoiled({ cache, sequences }: Problem): KvLayer {
  const { kvHeads, headDim } = cache;
  const nan = { f32: Number.NaN, f16: 0x7e7e, q8_0: 0x7e };
  const spoilt = { ...cache, k: cache.k.slice().fill(nan[cache.keys]), v: cache.v.slice().fill(nan[cache.values]) };
  for (const { past, length, blocks } of sequences) {
    for (let token = 0; token < past + length; token++) {
      for (let head = 0; head < kvHeads; head++) {
        for (let d = 0; d < headDim; d++) {
          const place = { head: blocks[token >> 4]! * kvHeads + head, place: token % 16, d };
          for (const name of ["k", "v"] as const) {
            const side = sideOf(cache, name);
            const at = elementAt(side, place);
            spoilt[name][at] = cache[name][at]!;
            if (side.type !== "q8_0") continue;
            const scale = scaleAt(side, place);
            spoilt[name].set(cache[name].subarray(scale, scale + 2), scale);
          }
        }
      }
    }
  }
  return spoilt;
}
