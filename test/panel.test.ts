import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { packWeights, type WeightType } from "../lib/kernels.js";
import { native } from "../lib/native.js";
import { weightBytes, weightFormats } from "../lib/weights/source.js";
import { random } from "./support/arbitraries.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { randomWeights } from "./support/weights.js";

const types = Object.keys(weightFormats) as WeightType[];

const problem = fc
  .record({
    type: fc.constantFrom(...types),
    rows: fc.integer({ min: 1, max: 70 }),
    blocks: fc.integer({ min: 1, max: 7 }),
    next: random,
  })
  .map(({ type, rows, blocks, next }) => randomWeights(type, rows, blocks * weightFormats[type].block, next));

describe("packed weights", () => {
  test("give back what was packed, bit for bit", () => {
    fc.assert(
      fc.property(problem, (weights) => {
        using packed = packWeights(weights);
        expectSameBits(packed.unpack(), weights.data);
      }),
    );
  });

  test("hold any bits, those of NaN too", () => {
    for (const type of types) {
      const { block } = weightFormats[type];
      const bytes = Uint8Array.from({ length: weightBytes(type, 33, 8 * block) }, (_, i) => (i * 37) ^ 255);
      const data = type === "f32" ? new Float32Array(bytes.buffer) : block > 1 ? bytes : new Uint16Array(bytes.buffer);
      using packed = packWeights({ type, rows: 33, cols: 8 * block, data });
      expectSameBits(packed.unpack(), data);
    }
  });

  test("take their rows in pieces, in any order, and give them back in others", () => {
    const device = new Device({ threads: 3 });
    fc.assert(
      fc.property(problem, fc.array(fc.nat(70)), fc.nat(), fc.nat(), ({ type, rows, cols, data }, cuts, from, to) => {
        const bytes = new Uint8Array(data.buffer);
        const rowBytes = weightBytes(type, 1, cols);
        const tensor = native.matrixCreate(device.handle, type, rows, cols);
        const edges = [0, rows, ...cuts.filter((cut) => cut < rows)].sort((a, b) => a - b);
        const pieces = edges.slice(1).map((end, i) => [edges[i]!, end] as const);
        for (const [begin, end] of pieces.reverse()) {
          native.tensorPack(tensor, begin, end - begin, bytes.subarray(begin * rowBytes, end * rowBytes));
        }
        const [begin, end] = [from % (rows + 1), to % (rows + 1)].sort((a, b) => a - b) as [number, number];
        const out = new Uint8Array((end - begin) * rowBytes);
        native.tensorUnpack(tensor, begin, end - begin, out);
        native.free(tensor);
        expectSameBits(out, bytes.subarray(begin * rowBytes, end * rowBytes));
      }),
    );
  });

  test("take whole panels: rows rounded up to 16, columns to 64 where two blocks of 32 stand together", () => {
    const bytes = (type: WeightType, rows: number, cols: number) => {
      using packed = packWeights(randomWeights(type, rows, cols, () => 0));
      expect(native.matrixBytes("cpu", type, rows, cols)).toBe(packed.bytes);
      return packed.bytes;
    };
    expect(bytes("f32", 17, 5)).toBe(32 * 5 * 4);
    expect(bytes("bf16", 16, 5)).toBe(16 * 5 * 2);
    expect(bytes("q4_0", 1, 32)).toBe(16 * 2 * 18);
    expect(bytes("q8_0", 33, 96)).toBe(48 * 4 * 34);
    expect(bytes("q5_0", 16, 96)).toBe(16 * 4 * 22);
    expect(bytes("iq4_nl", 16, 96)).toBe(16 * 4 * 18);
    expect(bytes("q4_1", 1, 32)).toBe(16 * 20);
    expect(bytes("q5_1", 17, 96)).toBe(32 * 3 * 24);
    expect(bytes("q4_z", 16, 96)).toBe(16 * 3 * 20);
    for (const type of ["q2_K", "q3_K", "q4_K", "q5_K", "q6_K"] as const) {
      expect(bytes(type, 32, 768)).toBe(weightBytes(type, 32, 768));
    }
  });

  test("take on a GPU whole tiles, but for f32, and K-quants a little more than in a file", () => {
    const bytes = (type: WeightType, rows: number, cols: number) => native.matrixBytes("cuda", type, rows, cols);
    expect(bytes("f32", 17, 5)).toBe(17 * 5 * 4);
    expect(bytes("f16", 17, 5)).toBe(32 * 16 * 2);
    expect(bytes("bf16", 16, 17)).toBe(16 * 32 * 2);
    expect(bytes("q4_0", 17, 96)).toBe(32 * 4 * 18);
    expect(bytes("q8_0", 1, 32)).toBe(16 * 2 * 34);
    const bits = (["q4_K", "q5_K", "q6_K"] as const).map((type) => bytes(type, 32, 768) / (32 * 96));
    expect(bits).toEqual([4.625, 5.625, 6.625]);
  });

  test("name the argument that is wrong", () => {
    const good = { type: "q8_0" as const, rows: 2, cols: 32, data: new Uint8Array(68) };
    const wrong = (changes: object, error: Error) =>
      expectArgumentError(() => packWeights({ ...good, ...changes }), error);

    const known = types.join(", ");
    wrong({ type: "q8_1" }, new RangeError(`type: must be one of ${known}, not "q8_1"`));
    wrong({ type: "toString" }, new RangeError(`type: must be one of ${known}, not "toString"`));
    wrong({ rows: 0 }, new RangeError("rows: must be an integer from 1 to 2147483647, not 0"));
    wrong({ rows: "2" }, new TypeError('rows: must be a number, not "2"'));
    wrong({ cols: 33 }, new RangeError("cols: must be a multiple of 32 in q8_0, not 33"));
    wrong({ cols: Number.NaN }, new RangeError("cols: must be an integer from 1 to 2147483647, not NaN"));
    wrong({ data: new Uint8Array(67) }, new RangeError("data.length: must be 68, not 67"));
    wrong({ data: new Float32Array(64) }, new TypeError("data: must be a Uint8Array, not Float32Array"));
    wrong({ rows: 2 ** 31 - 1 }, new RangeError("data.length: must be 73014443998, not 68"));
    expectArgumentError(() => packWeights(null as never), new TypeError("options: must be an object, not null"));
  });

  test("give their memory back once", () => {
    const packed = packWeights({ type: "f32", rows: 1, cols: 1, data: Float32Array.of(1) });
    packed.dispose();
    packed.dispose();
    expect(() => packed.unpack()).toThrow(expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_DISPOSED" }));
    expect(() => packed.bytes).toThrow(expect.objectContaining({ code: "ERR_CRIA_DISPOSED" }));
  });
});
