import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { add, type Execution } from "../lib/kernels.js";
import { floats } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits, written } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";

function run(execution: Execution, x: Float32Array, y: Float32Array): Float32Array {
  return written(x.length, (out) => add({ x, y, out, ...execution }));
}

// A kernel's row is 4096 elements, so some problems have several, and a rest.
const problem = fc
  .oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 4090, max: 13_000 }))
  .chain((n) => fc.record({ x: floats(n), y: floats(n) }));

describe("add", () => {
  test.each(executions)("$isa with $threads threads adds as IEEE 754 does", (execution) => {
    fc.assert(
      fc.property(problem, ({ x, y }) => {
        // float64's sum of two float32 values, rounded, is float32's sum (Figueroa 1995): 53 bits are 2 · 24 + 2.
        expectSameBits(run(execution, x, y), new Float32Array(x.map((value, i) => Math.fround(value + y[i]!))));
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads may write over either operand", (execution) => {
    fc.assert(
      fc.property(problem, fc.boolean(), ({ x, y }, overX) => {
        const want = run(scalar, x, y);
        const out = overX ? x : y;
        add({ x, y, out, ...execution });
        expectSameBits(out, want);
      }),
      { numRuns: 20 },
    );
  });

  test.each(executions)("$isa with $threads threads keeps NaN and infinity where they are", (execution) => {
    const x = new Float32Array(20).fill(1);
    x[3] = Number.NaN;
    x[9] = Number.POSITIVE_INFINITY;
    x[17] = Number.NEGATIVE_INFINITY;
    expect(run(execution, x, new Float32Array(20).fill(1))).toEqual(x.map((value) => value + 1));
  });

  test("names the argument that is wrong", () => {
    const good = { x: new Float32Array(4), y: new Float32Array(4), out: new Float32Array(4) };
    const wrong = (changes: object, error: Error) => expectArgumentError(() => add({ ...good, ...changes }), error);

    wrong({ y: new Float32Array(3) }, new RangeError("y: its length must be 4, not 3"));
    wrong({ out: new Float32Array(5) }, new RangeError("out: its length must be 4, not 5"));
    wrong({ x: null }, new TypeError("x: must be a Float32Array, not null"));
    wrong({ y: new Float64Array(4) }, new TypeError("y: must be a Float32Array, not a Float64Array"));
    const memory = new Float32Array(6);
    const overlap = { x: memory.subarray(0, 4), out: memory.subarray(2, 6) };
    wrong(overlap, new RangeError("out: must not overlap x"));
    const detached = new Float32Array(4);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ out: detached }, new TypeError("out: must not be detached"));
  });
});
