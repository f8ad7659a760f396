import { describe, expect, it } from "vitest";

import { Device } from "../lib/device.js";
import { native } from "../lib/native.js";
import { type WeightType, weightBytes, weightFormats } from "../lib/weights/source.js";
import { dequantise } from "./support/weights.js";

const rows = 64;
const cols = 1024;

async function randomValues(type: WeightType, seed: number, deviation: number): Promise<Float64Array> {
  using device = new Device({ device: "cpu" });
  const matrix = native.matrixCreate(device.handle, type, rows, cols);
  await native.tensorFillRandom(matrix, seed, deviation);
  const data = new Uint8Array(weightBytes(type, rows, cols));
  native.tensorUnpack(matrix, 0, rows, data);
  native.free(matrix);
  return dequantise({ type, rows, cols, data });
}

const mean = (values: Float64Array) => values.reduce((sum, value) => sum + value, 0) / values.length;

describe("random weights", () => {
  // Of 65536 weights, those of a K-quant in 256 superblocks of 8 or 16 scales: their products' variance is known to
  // within 3 %: 10 % is what "about" stands for.
  it.each(Object.keys(weightFormats) as WeightType[])(
    "of %s have about the deviation asked for, and hardly a mean",
    async (type) => {
      const values = await randomValues(type, 1, 0.02);
      expect(values.every(Number.isFinite)).toBe(true);
      const middle = mean(values);
      const deviation = Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
      expect(deviation / 0.02).toBeGreaterThan(0.9);
      expect(deviation / 0.02).toBeLessThan(1.1);
      // 4 bits run from -8 to 7: half a quant off, of a deviation of 4.6.
      expect(Math.abs(middle) / 0.02).toBeLessThan(0.13);
    },
  );

  it("are others with another seed, and the same with the same", async () => {
    expect(await randomValues("q4_K", 1, 0.02)).toEqual(await randomValues("q4_K", 1, 0.02));
    expect(await randomValues("q4_K", 2, 0.02)).not.toEqual(await randomValues("q4_K", 1, 0.02));
  });
});
