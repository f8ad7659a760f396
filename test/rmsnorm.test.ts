import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type Execution, rmsNorm } from "../lib/kernels.js";
import { floats } from "./support/arbitraries.js";
import { expectArgumentError, expectClose, expectSameBits, written } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";

/** RMSNorm in float64, from the paper's formula (Zhang and Sennrich 2019, eq. 4). */
function exact(x: Float32Array, weight: Float32Array, eps: number): number[] {
  const dim = weight.length;
  return Array.from(x, (value, i) => {
    const row = x.subarray(i - (i % dim), i - (i % dim) + dim);
    const meanSquare = row.reduce((sum, v) => sum + v * v, 0) / dim;
    return (value / Math.sqrt(meanSquare + eps)) * weight[i % dim]!;
  });
}

function run(execution: Execution, x: Float32Array, weight: Float32Array): Float32Array {
  return written(x.length, (out) => rmsNorm({ x, weight, out, eps: 1e-5, ...execution }));
}

// Rows whose length is below, at and past every register width, and enough of some to be shared among threads.
const problem = fc
  .record({ dim: fc.integer({ min: 1, max: 300 }), rows: fc.integer({ min: 0, max: 40 }) })
  .chain(({ dim, rows }) => fc.record({ x: floats(dim * rows), weight: floats(dim) }));

describe("rmsNorm", () => {
  test("is the paper's formula, to float32's accuracy", () => {
    fc.assert(
      fc.property(problem, ({ x, weight }) => {
        const want = exact(x, weight, 1e-5);
        // Below 1e-37 float32 is subnormal, and its spacing no longer relative.
        expectClose(run(scalar, x, weight), want, (i) => 1e-6 * Math.abs(want[i]!) + 1e-37);
      }),
      { numRuns: 50 },
    );
  });

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", (execution) => {
    fc.assert(
      fc.property(problem, ({ x, weight }) => expectSameBits(run(execution, x, weight), run(scalar, x, weight))),
      { numRuns: 50 },
    );
  });

  test.each(executions)("$isa with $threads threads may write over its input", (execution) => {
    fc.assert(
      fc.property(problem, ({ x, weight }) => {
        const want = run(scalar, x, weight);
        rmsNorm({ x, weight, out: x, eps: 1e-5, ...execution });
        expectSameBits(x, want);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)(
    "$isa with $threads threads turns NaN and infinity into NaN, in their row alone",
    (execution) => {
      for (const fault of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const x = new Float32Array(3 * 37).fill(1);
        x[37 + 20] = fault;
        const out = run(execution, x, new Float32Array(37).fill(1));
        expect(out[37 + 20]).toBeNaN();
        expect(out.subarray(0, 37).every((v) => Math.abs(v - 1) < 1e-5)).toBe(true);
        expect(out.subarray(74).every((v) => Math.abs(v - 1) < 1e-5)).toBe(true);
      }
    },
  );

  test("names the argument that is wrong", () => {
    const x = new Float32Array(8);
    const good = { x, weight: new Float32Array(4), out: new Float32Array(8), eps: 1e-5 };
    const wrong = (changes: object, error: Error) => expectArgumentError(() => rmsNorm({ ...good, ...changes }), error);

    wrong({ weight: new Float32Array(3) }, new RangeError("x: its length must be a multiple of weight's 3, not 8"));
    wrong({ weight: new Float32Array(0) }, new RangeError("weight: its length must be at least 1, not 0"));
    wrong({ out: new Float32Array(9) }, new RangeError("out: its length must be 8, not 9"));
    wrong({ eps: 0 }, new RangeError("eps: must be above 0, not 0"));
    wrong({ eps: Number.NaN }, new RangeError("eps: must be above 0, not nan"));
    wrong({ eps: "1e-5" }, new TypeError('eps: must be a number, not "1e-5"'));
    wrong({ x: [1, 2] }, new TypeError("x: must be a Float32Array, not another object"));
    wrong({ x: new Int32Array(8) }, new TypeError("x: must be a Float32Array, not an Int32Array"));
    wrong({ out: undefined }, new TypeError("out: must be a Float32Array, not undefined"));
    wrong({ weight: x.subarray(0, 4), out: x }, new RangeError("out: must not overlap weight"));
    wrong({ isa: "sse2" }, new RangeError('isa: must be scalar, avx2 or avx512, not "sse2"'));
    wrong({ isa: "" }, new RangeError('isa: must be scalar, avx2 or avx512, not ""'));
    wrong({ threads: 0 }, new RangeError("threads: must be an integer from 1 to 256, not 0"));
    wrong({ threads: 2 ** 53 }, new RangeError(`threads: must be an integer from 1 to 256, not ${2 ** 53}`));
    expectArgumentError(() => rmsNorm(undefined as never), new TypeError("options: must be an object, not undefined"));
  });

  test("takes part of an array, and refuses one that half overlaps", () => {
    const memory = new Float32Array(12).fill(2);
    const weight = new Float32Array(4).fill(1);
    rmsNorm({ x: memory.subarray(0, 4), weight, out: memory.subarray(4, 8), eps: 1e-5 });
    expect(Array.from(memory, Math.round)).toEqual([2, 2, 2, 2, 1, 1, 1, 1, 2, 2, 2, 2]);
    expectArgumentError(
      () => rmsNorm({ x: memory.subarray(0, 4), weight, out: memory.subarray(1, 5), eps: 1e-5 }),
      new RangeError("out: must not overlap x"),
    );
  });

  test.each(["x", "weight", "out"] as const)("refuses %s when it is detached", (name) => {
    const arrays = { x: new Float32Array(4), weight: new Float32Array(4), out: new Float32Array(4) };
    structuredClone(arrays[name], { transfer: [arrays[name].buffer] });
    expectArgumentError(() => rmsNorm({ ...arrays, eps: 1e-5 }), new TypeError(`${name}: must not be detached`));
  });
});
