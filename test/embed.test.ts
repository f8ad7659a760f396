import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { type Execution, embed, type PackedWeights, packWeights, type WeightType } from "../lib/kernels.js";
import { weightFormats } from "../lib/weights/source.js";
import { random } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { executions } from "./support/isas.js";
import { dequantise, randomWeights } from "./support/weights.js";

function run(execution: Execution, table: PackedWeights, tokens: Int32Array): Float32Array {
  const out = new Float32Array(tokens.length * table.cols).fill(Number.NaN);
  embed({ table, tokens, out, ...execution });
  return out;
}

const problem = fc
  .record({
    type: fc.constantFrom(...(Object.keys(weightFormats) as WeightType[])),
    rows: fc.integer({ min: 1, max: 70 }),
    blocks: fc.integer({ min: 1, max: 7 }),
    count: fc.integer({ min: 0, max: 40 }),
    next: random,
  })
  .map(({ type, rows, blocks, count, next }) => ({
    weights: randomWeights(type, rows, blocks * weightFormats[type].block, next),
    tokens: Int32Array.from({ length: count }, () => next() % rows),
  }));

describe("embed", () => {
  test.each(executions)("$isa with $threads threads gives the tokens' rows, exactly", (execution) => {
    fc.assert(
      fc.property(problem, ({ weights, tokens }) => {
        using table = packWeights(weights);
        const values = dequantise(weights);
        const want = Array.from(tokens, (id) => values.subarray(id * weights.cols, (id + 1) * weights.cols));
        // A scale of 11 bits times integers of 8 and of 6 fits float32's 24 or is rounded once, as the reference is. A 0
        // may have either sign where a scale's part and a minimum's cancel: + 0 gives it one.
        const rows = Float32Array.from(
          want.flatMap((row) => Array.from(row)),
          (x) => x + 0,
        );
        expectSameBits(
          run(execution, table, tokens).map((x) => x + 0),
          rows,
        );
      }),
      { numRuns: 50 },
    );
  });

  test("names the argument that is wrong", () => {
    using table = packWeights({ type: "f32", rows: 3, cols: 2, data: new Float32Array(6) });
    const good = { table, tokens: Int32Array.of(0, 2), out: new Float32Array(4) };
    const wrong = (changes: object, error: Error) => expectArgumentError(() => embed({ ...good, ...changes }), error);

    wrong({ tokens: Int32Array.of(0, 3) }, new RangeError("tokens: must be from 0 to 3 - 1, not 3"));
    wrong({ tokens: Int32Array.of(-1, 0) }, new RangeError("tokens: must be from 0 to 3 - 1, not -1"));
    wrong({ tokens: [0, 1] }, new TypeError("tokens: must be an Int32Array, not another object"));
    wrong({ tokens: new Uint16Array(2) }, new TypeError("tokens: must be an Int32Array, not a Uint16Array"));
    wrong({ out: new Float32Array(3) }, new RangeError("out: its length must be 4, not 3"));
    wrong({ table: {} }, new TypeError("table: must be PackedWeights, not Object"));
    wrong({ out: new Float32Array(good.tokens.buffer) }, new RangeError("out: its length must be 4, not 2"));
    const memory = new ArrayBuffer(16);
    const overlap = { tokens: new Int32Array(memory, 0, 2), out: new Float32Array(memory) };
    wrong(overlap, new RangeError("out: must not overlap tokens"));
    const detached = new Int32Array(2);
    structuredClone(detached, { transfer: [detached.buffer] });
    wrong({ tokens: detached }, new TypeError("tokens: must not be detached"));
    expect(good.out).toEqual(new Float32Array(4));
  });
});
