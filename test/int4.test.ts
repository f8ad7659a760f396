import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { type Int4Matrix, native } from "../lib/native.js";
import { Xoshiro128 } from "../lib/random.js";
import { random } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { type Int4Weights, int4Blocks, int4Matrix, orderOf, randomInt4 } from "./support/int4.js";

const device = new Device({ threads: 3 });

const problem = fc
  .record({
    outputs: fc.integer({ min: 1, max: 9 }).map((n) => 8 * n),
    inputs: fc.integer({ min: 1, max: 40 }).map((n) => 8 * n),
    groupSize: fc.constantFrom(-1, 32, 64, 128),
    actOrder: fc.boolean(),
    symmetric: fc.boolean(),
    next: random,
  })
  .map(({ next, ...options }) => randomInt4(options, next));

async function packed(weights: Int4Weights, matrix: Int4Matrix, type: "q4_z" | "q4_0", row = 0) {
  const tensor = native.matrixCreate(device.handle, type, weights.outputs + 2 * row, orderOf(weights).columns.length);
  await native.tensorPackInt4(tensor, row, matrix);
  const blocks = int4Blocks(weights, type);
  const out = new Uint8Array(blocks.length);
  native.tensorUnpack(tensor, row, weights.outputs, out);
  native.free(tensor);
  return { out, blocks };
}

describe("matrices of 4-bit weights", () => {
  test.each(["gptq", "awq"] as const)("of %s become blocks, bit for bit", async (layout) => {
    await fc.assert(
      fc.asyncProperty(problem, fc.boolean(), fc.nat(20), async (weights, zerosLessOne, row) => {
        const matrix = int4Matrix(weights, layout, zerosLessOne);
        const types = weights.zeros.every((zero) => zero === 8) ? (["q4_z", "q4_0"] as const) : (["q4_z"] as const);
        for (const type of types) {
          const { out, blocks } = await packed(weights, matrix, type, row);
          expectSameBits(out, blocks);
        }
      }),
      { numRuns: 60 },
    );
  });

  const next = Xoshiro128.fromSeed(1);
  const weights = randomInt4({ outputs: 16, inputs: 64, groupSize: 32 }, () => next.next());
  const good = int4Matrix(weights, "gptq", true);
  const create = (type: "q4_z" | "q4_0" | "q4_1" = "q4_z") => native.matrixCreate(device.handle, type, 16, 64);

  test("are refused by the argument that is wrong", () => {
    const wrong = (changes: object, message: string) => {
      const call = () => native.tensorPackInt4(create(), 0, { ...good, ...changes });
      expectArgumentError(call, new RangeError(message));
    };
    wrong({ outputs: 24 }, "matrix.weights: its length must be 192, not 128");
    wrong({ groups: 3 }, "matrix.zeros: its length must be 6, not 4");
    wrong({ scales: new Uint16Array(31) }, "matrix.scales: its length must be 32, not 31");
    wrong({ columns: new Int32Array(63) }, "matrix.columns: its length must be 64, not 63");
    wrong({ columnGroups: new Int32Array(3) }, "matrix.columnGroups: its length must be 2, not 3");
    wrong({ inputs: 0 }, "matrix.inputs: must be an integer of at least 1, not 0");
    wrong({ inputs: 2 ** 31 }, "matrix.inputs: must be below 2^31");
    wrong({ layout: "marlin" }, 'matrix.layout: must be one of gptq, awq, not "marlin"');
  });

  test("are refused as they are packed where an index, a tensor or a zero does not fit", async () => {
    const refused = async (tensor: ReturnType<typeof create>, changes: object, message: string) => {
      const call = native.tensorPackInt4(tensor, 0, { ...good, ...changes });
      await expect(call).rejects.toMatchObject({ code: "ERR_CRIA_ARGUMENT", message });
    };
    const columns = Int32Array.from({ length: 64 }, (_, i) => i);
    await refused(create(), { columns: columns.with(5, 64) }, "matrix.columns[5]: must be from -1 to 63, not 64");
    await refused(create(), { columns: columns.with(63, -2) }, "matrix.columns[63]: must be from -1 to 63, not -2");
    await refused(
      create(),
      { columnGroups: Int32Array.of(0, 2) },
      "matrix.columnGroups[1]: must be from 0 to 1, not 2",
    );
    await refused(create("q4_1"), {}, "tensor: must be of CRIA_TYPE_Q4_Z or CRIA_TYPE_Q4_0, not 3");
    await expect(native.tensorPackInt4(create("q4_0"), 0, good)).rejects.toThrow(
      "matrix.zeros: must be 8 throughout for a tensor of q4_0",
    );
    await expect(native.tensorPackInt4(create(), 1, good)).rejects.toThrow("rows: must be at most the 15 from row on");
  });
});
