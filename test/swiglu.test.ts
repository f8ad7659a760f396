import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type Execution, swiGlu } from "../lib/kernels.js";
import { floats } from "./support/arbitraries.js";
import { expectArgumentError, expectClose, expectSameBits, written } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";

interface Problem {
  dim: number;
  gateUp: Float32Array;
}

/** silu(gate) · up in float64 (Shazeer 2020). */
function exact({ dim, gateUp }: Problem): { out: number[]; size: number[] } {
  const out: number[] = [];
  const size: number[] = [];
  for (let row = 0; row < gateUp.length; row += 2 * dim) {
    for (let c = 0; c < dim; c++) {
      const gate = gateUp[row + c]!;
      const up = gateUp[row + dim + c]!;
      out.push((gate / (1 + Math.exp(-gate))) * up);
      size.push(Math.abs(gate * up));
    }
  }
  return { out, size };
}

function run(execution: Execution, { dim, gateUp }: Problem): Float32Array {
  return written(gateUp.length / 2, (out) => swiGlu({ gateUp, dim, out, ...execution }));
}

const problem = fc
  .record({ dim: fc.integer({ min: 1, max: 300 }), rows: fc.integer({ min: 0, max: 20 }) })
  .chain(({ dim, rows }) => fc.record({ dim: fc.constant(dim), gateUp: floats(2 * dim * rows) }));

describe("swiGlu", () => {
  test("is the paper's formula, to float32's accuracy", () => {
    fc.assert(
      fc.property(problem, (given) => {
        const { out, size } = exact(given);
        // Below a gate of -88 exp stands still at 2^127: what should vanish is some 2^-127 of its operands.
        expectClose(run(scalar, given), out, (i) => 4e-7 * Math.abs(out[i]!) + 2 ** -126 * (1 + size[i]!));
      }),
      { numRuns: 50 },
    );
  });

  test("is accurate over every gate from -100 to 100", () => {
    const gateUp = new Float32Array(40_000).map((_, i) => (i < 20_000 ? (i - 10_000) / 100 : 1));
    const { out } = exact({ dim: 20_000, gateUp });
    expectClose(run(scalar, { dim: 20_000, gateUp }), out, (i) => 4e-7 * Math.abs(out[i]!) + 2 ** -119);
  });

  test.each(executions)("$isa with $threads threads gives the scalar kernel's bits", (execution) => {
    fc.assert(
      fc.property(problem, (given) => expectSameBits(run(execution, given), run(scalar, given))),
      { numRuns: 50 },
    );
  });

  test.each(executions)(
    "$isa with $threads threads gives the scalar kernel's bits at gates of any size",
    (execution) => {
      // Every 4,099th float, of both signs: over a thousand of each exponent.
      const bits = Uint32Array.from(
        { length: 2 * Math.floor(0x7f800000 / 4099) },
        (_, i) => (i >> 1) * 4099 + (i & 1) * 2 ** 31,
      );
      const gateUp = new Float32Array(2 * bits.length).fill(1.5);
      gateUp.set(new Float32Array(bits.buffer));
      expectSameBits(run(execution, { dim: bits.length, gateUp }), run(scalar, { dim: bits.length, gateUp }));
    },
  );

  test.each(executions)(
    "$isa with $threads threads lets NaN through, and no infinity turns into a number",
    (execution) => {
      const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
      const gateUp = Float32Array.of(nan, 1, infinity, 1, 1, nan, 1, -infinity);
      expect(Array.from(run(execution, { dim: 4, gateUp }), String)).toEqual(["NaN", "NaN", "Infinity", "-Infinity"]);
    },
  );

  test("names the argument that is wrong", () => {
    const good = { gateUp: new Float32Array(8), dim: 2, out: new Float32Array(4) };
    const wrong = (changes: object, error: Error) => expectArgumentError(() => swiGlu({ ...good, ...changes }), error);

    wrong({ dim: 3 }, new RangeError("out: its length must be a multiple of dim 3, not 4"));
    wrong({ dim: 0 }, new RangeError("dim: must be an integer of at least 1, not 0"));
    wrong({ dim: 2 ** 53 }, new RangeError(`dim: must be an integer of at least 1, not ${2 ** 53}`));
    wrong({ dim: Number.NaN }, new RangeError("dim: must be an integer of at least 1, not NaN"));
    wrong({ dim: 1n }, new TypeError("dim: must be a number, not 1"));
    wrong({ gateUp: new Float32Array(7) }, new RangeError("gateUp: its length must be 8, not 7"));
    wrong({ gateUp: "x" }, new TypeError('gateUp: must be a Float32Array, not "x"'));
    wrong({ out: good.gateUp.subarray(4) }, new RangeError("out: must not overlap gateUp"));
    const detached = new Float32Array(4);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ out: detached }, new TypeError("out: must not be detached"));
  });
});
