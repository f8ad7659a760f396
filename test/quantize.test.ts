import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type Execution, matmul, type PackedWeights, packWeights, quantize } from "../lib/kernels.js";
import { floats } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { executions } from "./support/isas.js";

interface Quantised {
  quants: Int8Array;
  scales: Float32Array;
  sums: Int32Array;
}

interface Problem {
  dim: number;
  x: Float32Array;
}

function empty({ dim, x }: Problem): Quantised {
  const rows = x.length / dim;
  const stride = Math.ceil(dim / 64) * 64;
  return {
    quants: new Int8Array(rows * stride).fill(99),
    scales: new Float32Array((rows * stride) / 32).fill(99),
    sums: new Int32Array((rows * stride) / 32).fill(99),
  };
}

function run(execution: Execution, problem: Problem): Quantised {
  const out = empty(problem);
  quantize({ ...problem, ...out, ...execution });
  return out;
}

/** To the nearest integer, ties to even: 1.5 · 2^52 leaves no bit of a fraction. */
const rint = (x: number) => x + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;

/** In the order of csrc/cpu/reduce.h; two products of 32, and what they add to, are exact in float64. */
function sumOfProducts(y: readonly number[], q: readonly number[]): number {
  let lanes = Array.from({ length: 16 }, (_, j) => {
    const first = Math.fround(y[j]! * q[j]!);
    return Math.fround(y[j + 16]! * q[j + 16]! + first);
  });
  while (lanes.length > 1) {
    const half = lanes.length / 2;
    lanes = lanes.slice(0, half).map((lane, j) => Math.fround(lane + lanes[j + half]!));
  }
  return lanes[0]!;
}

/** csrc/cpu/quantize.h. float64's quotients and products, rounded to float32, are float32's. */
function specified(problem: Problem): Quantised {
  const { dim, x } = problem;
  const out = empty(problem);
  const stride = Math.ceil(dim / 64) * 64;
  for (let block = 0; block < out.scales.length; block++) {
    const row = Math.floor((block * 32) / stride);
    const column = (block * 32) % stride;
    const values = Array.from({ length: 32 }, (_, k) => (column + k < dim ? x[row * dim + column + k]! : 0));
    const largest = Math.max(...values.map(Math.abs));
    const sound = largest >= 2 ** -119 && largest < Number.POSITIVE_INFINITY;
    const inverse = sound ? Math.fround(127 / largest) : 0;
    const scaled = values.map((value) => (sound ? Math.fround(value * inverse) : 0));
    const quants = scaled.map(rint);
    const squares = quants.reduce((sum, q) => sum + q * q, 0);
    const refit = Math.fround(sumOfProducts(scaled, quants) / squares);
    out.quants.set(quants, block * 32);
    out.scales[block] = Number.isFinite(largest) ? (sound ? Math.fround(largest / 127) * refit : 0) : Number.NaN;
    out.sums[block] = quants.reduce((sum, q) => sum + q, 0);
  }
  return out;
}

const rowsOf = (dim: fc.Arbitrary<number>, most: number): fc.Arbitrary<Problem> =>
  fc
    .record({ dim, rows: fc.nat(most) })
    .chain(({ dim, rows }) => fc.record({ dim: fc.constant(dim), x: floats(dim * rows) }));

// Rows shorter than the widest kernel's group of 16 blocks, and rows of several groups.
const problem = fc.oneof(
  { weight: 3, arbitrary: rowsOf(fc.integer({ min: 1, max: 300 }), 20) },
  rowsOf(fc.integer({ min: 480, max: 1200 }), 5),
);

/** A q8_0 matrix of ones on the diagonal: a product with it is its operand, as the product quantised it. */
function identity(dim: number): PackedWeights {
  const blocks = dim / 32;
  const data = new Uint8Array(dim * blocks * 34);
  const view = new DataView(data.buffer);
  for (let block = 0; block < dim * blocks; block++) view.setUint16(block * 34, 0x3c00, true); // a scale of 1
  for (let row = 0; row < dim; row++) data[(row * blocks + (row >> 5)) * 34 + 2 + (row % 32)] = 1;
  return packWeights({ type: "q8_0", rows: dim, cols: dim, data });
}

describe("quantize", () => {
  test.each(executions)("$isa with $threads threads is the specified arithmetic, bit for bit", (execution) => {
    fc.assert(
      fc.property(problem, (given) => {
        const got = run(execution, given);
        const want = specified(given);
        expectSameBits(got.quants, want.quants);
        expectSameBits(got.scales, want.scales);
        expectSameBits(got.sums, want.sums);
      }),
      { numRuns: 50 },
    );
  });

  // Rows are quantised in pieces of 4096 columns.
  test.each(executions)("$isa with $threads threads goes past a piece of a row", (execution) => {
    for (const dim of [4095, 4096, 4097, 8225]) {
      const given = { dim, x: Float32Array.from({ length: 2 * dim }, (_, i) => Math.sin(i) * (1 + (i % 7))) };
      const got = run(execution, given);
      const want = specified(given);
      expectSameBits(got.quants, want.quants);
      expectSameBits(got.scales, want.scales);
      expectSameBits(got.sums, want.sums);
    }
  });

  // Products keep their operand block by block, quantize gives it row by row.
  test.each(executions)("$isa with $threads threads does the same where a product asks for it", (execution) => {
    const operand = fc
      .record({ blocks: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 15, max: 34 })), rows: fc.nat(20) })
      .chain(({ blocks, rows }) => fc.record({ dim: fc.constant(32 * blocks), x: floats(32 * blocks * rows) }));
    fc.assert(
      fc.property(operand, ({ dim, x }) => {
        using weight = identity(dim);
        const out = new Float32Array(x.length).fill(Number.NaN);
        matmul({ weight, x, out, ...execution });
        const { quants, scales } = specified({ dim, x });
        const stride = Math.ceil(dim / 64) * 64;
        const want = x.map((_, i) => {
          const at = Math.floor(i / dim) * stride + (i % dim);
          return scales[at >> 5]! * quants[at]! + 0; // + 0: a product adds up from 0, so it has no -0
        });
        expectSameBits(out, want);
      }),
      { numRuns: 15 },
    );
  });

  test.each(executions)("$isa with $threads threads writes nothing past its rows", (execution) => {
    for (const dim of [1, 32, 65, 512, 544, 4096, 4192]) {
      const given = { dim, x: new Float32Array(3 * dim).fill(1) };
      const out = empty(given);
      const longer = {
        quants: new Int8Array(out.quants.length + 512).fill(99),
        scales: new Float32Array(out.scales.length + 16).fill(99),
        sums: new Int32Array(out.sums.length + 16).fill(99),
      };
      quantize({
        ...given,
        quants: longer.quants.subarray(0, -512),
        scales: longer.scales.subarray(0, -16),
        sums: longer.sums.subarray(0, -16),
        ...execution,
      });
      for (const array of [longer.quants.subarray(-512), longer.scales.subarray(-16), longer.sums.subarray(-16)]) {
        expect(array.every((value) => value === 99)).toBe(true);
      }
    }
  });

  test.each(executions)(
    "$isa with $threads threads rounds ties to even, and scales where 127 / max is extreme",
    (execution) => {
      // A largest value of 127 has the scale 1, so halves are ties; the other rows are at the edges of the range.
      const ties = Float32Array.from({ length: 32 }, (_, i) => (i === 31 ? 127 : i - 15.5));
      const edges = [2 ** -119, 2 ** -119 * (1 - 2 ** -24), 2 ** -149, 3.4028234663852886e38, 2 ** -126];
      const x = Float32Array.from([
        ...ties,
        ...edges.flatMap((edge) => [edge, -edge, ...new Array(30).fill(edge / 2)]),
      ]);
      const got = run(execution, { dim: 32, x });
      const want = specified({ dim: 32, x });
      expectSameBits(got.quants, want.quants);
      expectSameBits(got.scales, want.scales);
      expect(Array.from(got.quants.subarray(0, 8))).toEqual([-16, -14, -14, -12, -12, -10, -10, -8]);
    },
  );

  test("leaves less squared error than any other scale would, max / 127 among them", () => {
    fc.assert(
      fc.property(problem, ({ dim, x }) => {
        const { quants, scales } = run({}, { dim, x });
        const stride = Math.ceil(dim / 64) * 64;
        scales.forEach((scale, block) => {
          const row = Math.floor((block * 32) / stride) * dim;
          const column = (block * 32) % stride;
          const values = Array.from(x.subarray(row + Math.min(column, dim), row + Math.min(column + 32, dim)));
          const largest = Math.max(0, ...values.map(Math.abs));
          const energy = values.reduce((sum, v) => sum + v * v, 0);
          const error = (by: number) => values.reduce((sum, v, k) => sum + (v - by * quants[block * 32 + k]!) ** 2, 0);
          for (const other of [largest / 127, scale * 0.999, scale * 1.001]) {
            // float32 rounds the scale, by some 2^-22 of it.
            expect(error(scale)).toBeLessThanOrEqual(error(other) * (1 + 1e-6) + energy * 2 ** -43 + 2 ** -238);
          }
          // Each q is nearest to its value in units of max / 127.
          values.forEach((v, k) => {
            const q = quants[block * 32 + k]!;
            expect(Math.abs(v - (q * largest) / 127)).toBeLessThanOrEqual((0.50001 * largest) / 127 + 2 ** -119);
          });
        });
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)(
    "$isa with $threads threads marks a block that holds NaN or an infinity, and no other",
    (execution) => {
      for (const fault of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        for (const at of [0, 7, 31]) {
          const x = new Float32Array(96).fill(1);
          x[32 + at] = fault;
          const { quants, scales, sums } = run(execution, { dim: 96, x });
          expect(Array.from(scales, (scale) => Number.isNaN(scale))).toEqual([false, true, false, false]);
          expect(Array.from(sums)).toEqual([32 * 127, 0, 32 * 127, 0]);
          expect(quants.subarray(32, 64).every((q) => q === 0)).toBe(true);
        }
      }
    },
  );

  test("names the argument that is wrong", () => {
    const problem = { dim: 33, x: new Float32Array(66) };
    const good = { ...problem, ...empty(problem) };
    const wrong = (changes: object, error: Error) =>
      expectArgumentError(() => quantize({ ...good, ...changes }), error);

    wrong({ dim: 4 }, new RangeError("x: its length must be a multiple of dim 4, not 66"));
    wrong({ dim: -1 }, new RangeError("dim: must be an integer of at least 1, not -1"));
    wrong({ dim: 1.5 }, new RangeError("dim: must be an integer of at least 1, not 1.5"));
    wrong({ quants: new Int8Array(66) }, new RangeError("quants: its length must be 128, not 66"));
    wrong({ scales: new Float32Array(2) }, new RangeError("scales: its length must be 4, not 2"));
    wrong({ sums: new Int32Array(0) }, new RangeError("sums: its length must be 4, not 0"));
    wrong({ quants: new Uint8Array(128) }, new TypeError("quants: must be an Int8Array, not a Uint8Array"));
    wrong({ sums: {} }, new TypeError("sums: must be an Int32Array, not another object"));
    wrong({ scales: good.x.subarray(0, 4) }, new RangeError("scales: must not overlap x"));
    wrong({ sums: new Int32Array(good.scales.buffer) }, new RangeError("sums: must not overlap scales"));
    const detached = new Float32Array(4);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ scales: detached }, new TypeError("scales: must not be detached"));
  });
});
