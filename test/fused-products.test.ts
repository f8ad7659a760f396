import fc from "fast-check";
import { describe, test } from "vitest";

import { Device } from "../lib/device.js";
import { KvPool } from "../lib/kv-pool.js";
import { native, type TensorHandle } from "../lib/native.js";
import { type CacheShape, Program } from "../lib/program.js";
import type { WeightType } from "../lib/weights/source.js";
import { random } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { executions } from "./support/isas.js";
import { randomWeights } from "./support/weights.js";

const shape: CacheShape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 };

/** Widths whose halves are and are not multiples of 16, rows of 4 KiB and of other strides, one token to many. */
const problem = fc.record({
  type: fc.constantFrom<WeightType>("f32", "f16", "bf16", "q8_0", "q4_0"),
  width: fc.constantFrom(5, 16, 32, 48, 1024),
  cols: fc.constantFrom(32, 96),
  tokens: fc.constantFrom(1, 2, 3, 9, 130),
  next: random,
});

interface Weights {
  readonly table: TensorHandle;
  readonly start: TensorHandle;
  readonly gateUp: TensorHandle;
  readonly down: TensorHandle;
}

/** start(x) + down(x) + SwiGLU of gateUp(x), for each of some tokens, by fused products or by their parts. */
async function run(on: Device, weights: Weights, tokens: number, fused: boolean): Promise<Float32Array> {
  const [cols, width] = [native.tensorCols(weights.down), native.tensorRows(weights.down)];
  const program = new Program(on, shape);
  const [x, out, gated] = [
    program.value("tokens", cols),
    program.value("tokens", width),
    program.value("tokens", width),
  ];
  program.embed(weights.table, x);
  program.matmul(x, weights.start, out);
  if (fused) {
    program.matmulSwiGlu(x, weights.gateUp, gated);
    program.matmulAdd(x, weights.down, out);
  } else {
    const [gateUp, delta] = [program.value("tokens", 2 * width), program.value("tokens", width)];
    program.matmul(x, weights.gateUp, gateUp);
    program.swiGlu(gateUp, gated);
    program.matmul(x, weights.down, delta);
    program.add(out, delta, out);
  }
  program.add(out, gated, out);
  const result = program.value("outputs", width);
  program.select(out, result);
  program.finish(result);

  using pool = new KvPool(on, shape, 144);
  const rows = Int32Array.from({ length: tokens }, (_, i) => i);
  const blocks = rows.subarray(0, Math.ceil(tokens / 16));
  return await program.run(pool.cache, {
    tokens: rows.map((i) => i % 4),
    positions: rows,
    lengths: Int32Array.of(tokens),
    pasts: Int32Array.of(0),
    blockCounts: Int32Array.of(blocks.length),
    blocks,
    outputs: rows,
  });
}

describe("products fused with what follows them", () => {
  test.each(executions)("have the bits of their parts, with $isa and $threads threads", async (execution) => {
    const on = new Device(execution);
    const packed = (type: WeightType, rows: number, cols: number, next: () => number) => {
      const { data } = randomWeights(type, rows, cols, next);
      const tensor = native.matrixCreate(on.handle, type, rows, cols);
      native.tensorPack(tensor, 0, rows, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      return tensor;
    };
    await fc.assert(
      fc.asyncProperty(problem, async ({ type, width, cols, tokens, next }) => {
        const weights = {
          table: packed(type, 4, cols, next),
          start: packed(type, width, cols, next),
          gateUp: packed(type, 2 * width, cols, next),
          down: packed(type, width, cols, next),
        };
        expectSameBits(await run(on, weights, tokens, true), await run(on, weights, tokens, false));
      }),
      { numRuns: 25 },
    );
  });

  test("are checked as they are recorded", () => {
    const on = new Device();
    const program = new Program(on, shape);
    const [x, out] = [program.value("tokens", 32), program.value("tokens", 16)];
    const matrix = (rows: number) => native.matrixCreate(on.handle, "f32", rows, 32);
    expectArgumentError(() => program.matmulAdd(x, matrix(8), out), new RangeError("out: must be 8 wide, not 16"));
    expectArgumentError(() => program.matmulAdd(x, matrix(32), x), new RangeError("out: must not be x"));
    expectArgumentError(
      () => program.matmulSwiGlu(x, matrix(16), out),
      new RangeError("weight: must be of 32 rows, twice out's width, not 16"),
    );
    const odd = program.value("tokens", 5);
    for (const value of [x, odd]) {
      const both = native.matrixCreate(on.handle, "f32", 2 * value.width, value.width);
      expectArgumentError(() => program.matmulSwiGlu(value, both, value), new RangeError("out: must not be x"));
    }
    expectArgumentError(() => program.matmulSwiGlu(out, matrix(32), x), new RangeError("x: must be 32 wide, not 16"));
  });
});
