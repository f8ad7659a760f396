/** Programs on one GPU at once, as callers of the C ABI with threads of their own run them: past the device's queue. */
import { describe, expect, test } from "vitest";

import { Device } from "../../lib/device.js";
import { native } from "../../lib/native.js";

const found = native.deviceDescribe("cuda-emulated");
const [rows, cols] = [32, 8];

describe.runIf(found.available)("programs on one emulated GPU", () => {
  test("run at once, one waiting while another's graph is captured", async () => {
    using device = new Device({ device: "cuda-emulated" });
    const shape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 } as const;
    const table = native.matrixCreate(device.handle, "f32", rows, cols);
    const data = Float32Array.from({ length: rows * cols }, (_, i) => i);
    native.tensorPack(table, 0, rows, new Uint8Array(data.buffer));
    const cache = native.cacheCreate(device.handle, shape, 64);

    const programs = Array.from({ length: 3 }, () => {
      const program = native.programCreate(device.handle, shape);
      const x = native.programValue(program, "tokens", cols);
      const out = native.programValue(program, "outputs", cols);
      native.programEmbed(program, table, x);
      // Steps enough that one program's run is under way while another's begins.
      for (let i = 0; i < 40; i++) native.programAdd(program, x, x, x);
      native.programSelect(program, x, out);
      native.programFinish(program, out);
      return program;
    });
    // The second batch of a size has its graph captured.
    for (let count = 1; count <= 16; count *= 2) {
      const tokens = Int32Array.from({ length: count }, (_, i) => (i * 5) % rows);
      const each = Int32Array.from({ length: count }, (_, i) => i);
      const batch = {
        tokens,
        positions: new Int32Array(count),
        lengths: Int32Array.of(count),
        pasts: Int32Array.of(0),
        blockCounts: Int32Array.of(1),
        blocks: Int32Array.of(0),
        outputs: each,
      };
      const runs = Array.from({ length: 12 }, (_, i) =>
        native.programRun(programs[i % programs.length]!, cache, batch, cols, undefined),
      );
      const expected = Float32Array.from({ length: count * cols }, (_, i) => {
        const token = tokens[Math.floor(i / cols)]!;
        return (token * cols + (i % cols)) * 2 ** 40;
      });
      for (const result of await Promise.all(runs)) expect(result).toEqual(expected);
    }
  });
});
