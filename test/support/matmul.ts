import fc from "fast-check";
import { expect, test } from "vitest";

import {
  type Execution,
  matmul,
  type PackedWeights,
  type PackWeightsOptions,
  packWeights,
  quantize,
  type WeightType,
} from "../../lib/kernels.js";
import { Xoshiro128 } from "../../lib/random.js";
import { weightFormats } from "../../lib/weights/source.js";
import { random, randomFloats } from "./arbitraries.js";
import { expectArgumentError, expectClose, expectSameBits } from "./compare.js";
import { available, executions, scalar } from "./isas.js";
import { isQuantised } from "./quantised.js";
import { constantWeights, dequantise, randomWeights, weightParts } from "./weights.js";

// Rows and columns below, at and past 16, 32 and 64, and tokens below and past every tile and block of tokens.
const problems = (type: WeightType) =>
  fc
    .record({
      rows: fc.integer({ min: 1, max: 70 }),
      blocks: fc.integer({ min: 1, max: weightFormats[type].block === 1 ? 150 : 7 }),
      tokens: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 4, max: 21 }), fc.constantFrom(128, 129, 257)),
      next: random,
    })
    .map(({ rows, blocks, tokens, next }) => {
      const weights = randomWeights(type, rows, blocks * weightFormats[type].block, next);
      return { weights, x: randomFloats(tokens * weights.cols, next) };
    });

function run(execution: Execution, weight: PackedWeights, x: Float32Array): Float32Array {
  const out = new Float32Array((x.length / weight.cols) * weight.rows).fill(Number.NaN);
  matmul({ weight, x, out, ...execution });
  return out;
}

/** The x that a product with such weights multiplies by: itself, or as quantize leaves it. */
function operand(type: WeightType, x: Float32Array, cols: number): Float64Array {
  if (weightFormats[type].block === 1) return Float64Array.from(x);
  const rows = x.length / cols;
  const stride = Math.ceil(cols / 64) * 64;
  const quants = new Int8Array(rows * stride);
  const scales = new Float32Array((rows * stride) / 32);
  quantize({ x, dim: cols, quants, scales, sums: new Int32Array((rows * stride) / 32), ...scalar });
  return Float64Array.from(x, (_, i) => {
    const at = Math.floor(i / cols) * stride + (i % cols);
    return scales[at >> 5]! * quants[at]!;
  });
}

/**
 * The weights' values, and what their magnitudes come to where a scale's part and a minimum's, which the kernels add up
 * apart, cancel one another.
 */
function valuesOf(weights: PackWeightsOptions): { values: Float64Array; sizes: Float64Array } {
  const values = dequantise(weights);
  const parts = weightParts(weights).map(dequantise);
  return { values, sizes: values.map((_, i) => parts.reduce((sum, part) => sum + Math.abs(part[i]!), 0)) };
}

/** x · weightᵀ in float64, and the sum of the magnitudes that each output was added up from. */
function exact(weights: PackWeightsOptions, x: Float64Array): { out: number[]; size: number[] } {
  const { rows, cols } = weights;
  const { values, sizes } = valuesOf(weights);
  const out: number[] = [];
  const size: number[] = [];
  for (let t = 0; t < x.length; t += cols) {
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      let magnitude = 0;
      for (let k = 0; k < cols; k++) {
        sum += values[row * cols + k]! * x[t + k]!;
        magnitude += sizes[row * cols + k]! * Math.abs(x[t + k]!);
      }
      out.push(sum);
      size.push(magnitude);
    }
  }
  return { out, size };
}

/** The properties of a product with weights of `type`. */
export function testMatmul(type: WeightType): void {
  const problem = problems(type);
  const granule = Math.max(32, weightFormats[type].block);

  test("is the product, to float32's accuracy", () => {
    fc.assert(
      fc.property(problem, ({ weights, x }) => {
        using weight = packWeights(weights);
        const { out, size } = exact(weights, operand(type, x, weights.cols));
        // 150 steps, each rounding by at most 2^-24 of the sum so far; 2^-126 where a product is subnormal.
        expectClose(run(scalar, weight, x), out, (i) => 150 * 2 ** -24 * size[i]! + weights.cols * 2 ** -126);
      }),
      { numRuns: 40 },
    );
  });

  // Large enough that one token's product is cut for the threads, down to its smallest chunks.
  test.each([2, 3, 5, 40])("few tokens shared by %i threads have the scalar kernel's bits", (threads) => {
    const next = Xoshiro128.fromSeed(threads);
    using weight = packWeights(randomWeights(type, 1003, 7 * granule, () => next.next()));
    for (const tokens of [1, 2, 3]) {
      const x = randomFloats(tokens * weight.cols, () => next.next());
      const want = run(scalar, weight, x);
      for (const isa of available) expectSameBits(run({ isa, threads }, weight, x), want);
    }
  });

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", (execution) => {
    fc.assert(
      fc.property(problem, ({ weights, x }) => {
        using weight = packWeights(weights);
        expectSameBits(run(execution, weight, x), run(scalar, weight, x));
      }),
      { numRuns: 40 },
    );
  });

  if (isQuantised(type)) {
    // Every quant at its least or largest, every activation at ±127: what integer sums must hold at most.
    test("the largest sums give the scalar kernel's bits", () => {
      const cols = 2 * granule;
      for (const byte of [0x00, 0x7f, 0x80, 0xff]) {
        using weight = packWeights(constantWeights(type, 16, cols, byte));
        for (const value of [1, -1]) {
          const x = new Float32Array(3 * cols).fill(value);
          const want = run(scalar, weight, x);
          for (const execution of executions) {
            expectSameBits(run(execution, weight, x), want);
            expectSameBits(run(execution, weight, x.subarray(0, cols)), want.subarray(0, 16));
          }
        }
      }
    });
  }

  test.each(executions)("$isa with $threads threads gives a token the bits that it has alone", (execution) => {
    fc.assert(
      fc.property(problem, ({ weights, x }) => {
        using weight = packWeights(weights);
        const { rows, cols } = weights;
        const together = run(execution, weight, x);
        for (let t = 0; t < x.length / cols; t++) {
          const alone = run(execution, weight, x.subarray(t * cols, (t + 1) * cols));
          expectSameBits(together.subarray(t * rows, (t + 1) * rows), alone);
        }
      }),
      { numRuns: 20 },
    );
  });

  test("large enough for many slices gives the scalar kernel's bits", () => {
    const next = fc.sample(random, { numRuns: 1, seed: 1 })[0]!;
    const weights = randomWeights(type, 700, 512, next);
    using weight = packWeights(weights);
    const x = randomFloats(3 * 512, next);
    const want = run(scalar, weight, x);
    for (const execution of executions) expectSameBits(run(execution, weight, x), want);
  });

  test.each(executions)(
    "$isa with $threads threads turns NaN and infinity in x into NaN, in their row alone",
    (execution) => {
      const next = fc.sample(random, { numRuns: 1, seed: 2 })[0]!;
      const cols = 3 * granule;
      using weight = packWeights(randomWeights(type, 19, cols, next));
      for (const fault of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const x = new Float32Array(3 * cols).fill(1);
        x[cols + 40] = fault;
        const out = run(execution, weight, x);
        const row = (t: number) => Array.from(out.subarray(t * 19, (t + 1) * 19));
        expect(row(1).some(Number.isFinite)).toBe(false);
        expect(row(0).every(Number.isFinite)).toBe(true);
        expect(row(2)).toEqual(row(0));
      }
    },
  );

  test("names the argument that is wrong", () => {
    const next = fc.sample(random, { numRuns: 1, seed: 3 })[0]!;
    const cols = 2 * granule;
    using weight = packWeights(randomWeights(type, 5, cols, next));
    const good = { weight, x: new Float32Array(2 * cols), out: new Float32Array(10) };
    const wrong = (changes: object, error: Error) => expectArgumentError(() => matmul({ ...good, ...changes }), error);

    const problem = `x: its length must be a multiple of weight's cols ${cols}, not ${cols + 1}`;
    wrong({ x: new Float32Array(cols + 1) }, new RangeError(problem));
    wrong({ out: new Float32Array(5) }, new RangeError("out: its length must be 10, not 5"));
    wrong({ x: new Int32Array(2 * cols) }, new TypeError("x: must be a Float32Array, not an Int32Array"));
    wrong({ weight: good.x }, new TypeError("weight: must be PackedWeights, not Float32Array"));
    wrong({ weight: undefined }, new TypeError("weight: must be PackedWeights, not undefined"));
    wrong({ out: good.x.subarray(0, 10) }, new RangeError("out: must not overlap x"));
    const detached = new Float32Array(2 * cols);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ x: detached }, new TypeError("x: must not be detached"));

    weight.dispose();
    weight.dispose();
    expect(() => matmul(good)).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_DISPOSED", message: "weight: was disposed" }),
    );
  });
}
