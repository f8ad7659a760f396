/** Buffers that are detached, resized or written to, before a call and while the work that it began goes on. */
import { describe, expect, test } from "vitest";

import { add } from "../../lib/kernels.js";
import { native } from "../../lib/native.js";
import { detached, growable, resizable } from "../support/junk.js";

const shape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 } as const;
const device = native.deviceOpen("cpu", undefined, 1);
const cache = native.cacheCreate(device, shape, 4);
const blockBytes = 1024;
const vocab = 16;

/** Logits are products of the table's rows with themselves: which tokens were read can be told from them. */
function program() {
  const table = native.matrixCreate(device, "f32", vocab, 8);
  native.tensorPack(
    table,
    0,
    vocab,
    new Uint8Array(Float32Array.from({ length: vocab * 8 }, (_, i) => (i * 37) % 11).buffer),
  );
  const made = native.programCreate(device, shape);
  const x = native.programValue(made, "tokens", 8);
  const selected = native.programValue(made, "outputs", 8);
  const logits = native.programValue(made, "outputs", vocab);
  native.programEmbed(made, table, x);
  native.programSelect(made, x, selected);
  native.programMatmul(made, selected, table, logits, 0);
  native.programFinish(made, logits);
  return made;
}
const recorded = program();

const batch = () => ({
  tokens: Int32Array.of(3, 5),
  positions: Int32Array.of(0, 1),
  lengths: Int32Array.of(2),
  pasts: Int32Array.of(0),
  blockCounts: Int32Array.of(1),
  blocks: Int32Array.of(2),
  outputs: Int32Array.of(1, 0),
});
const one = () => ({
  ...batch(),
  tokens: Int32Array.of(7),
  positions: Int32Array.of(0),
  lengths: Int32Array.of(1),
  outputs: new Int32Array(0),
});
const sampling = [{ temperature: 0.7, topP: 0.9, seed: 3 }];
const blockOf = (byte: number) => new Uint8Array(blockBytes).fill(byte);

/** Work that outlives its call, with the arrays that it was given and what comes of it. */
const asynchronous: Record<string, () => { arrays: ArrayBufferView[]; result: Promise<unknown> }> = {
  programRun: () => {
    const arrays = batch();
    return { arrays: Object.values(arrays), result: native.programRun(recorded, cache, arrays, vocab, undefined) };
  },
  programDecode: () => {
    const arrays = one();
    return {
      arrays: Object.values(arrays),
      result: native.programDecode(recorded, cache, arrays, 8, sampling, 5, undefined),
    };
  },
  cacheWrite: () => {
    const arrays = [Int32Array.of(1), blockOf(7)] as const;
    const out = new Uint8Array(blockBytes);
    const written = native.cacheWrite(cache, ...arrays);
    const result = written.then(() => native.cacheRead(cache, Int32Array.of(1), out)).then(() => out);
    return { arrays: [...arrays], result };
  },
  cacheRead: () => {
    const blocks = Int32Array.of(1);
    const out = new Uint8Array(blockBytes);
    return { arrays: [blocks], result: native.cacheRead(cache, blocks, out).then(() => out) };
  },
  cacheMove: () => {
    const arrays = [Int32Array.of(16), Int32Array.of(17)] as const;
    const out = new Uint8Array(blockBytes);
    const moved = native.cacheMove(cache, ...arrays, 0, undefined);
    const result = moved.then(() => native.cacheRead(cache, Int32Array.of(1), out)).then(() => out);
    return { arrays: [...arrays], result };
  },
};

const disturbances: Record<string, (array: ArrayBufferView) => void> = {
  detached: (array) => void detached(array),
  overwritten: (array) => new Uint8Array(array.buffer).fill(0xff),
};

describe.each(Object.keys(asynchronous))("%s", (name) => {
  test.each(Object.keys(disturbances))("works on copies of its arrays, which may be %s meanwhile", async (how) => {
    await native.cacheWrite(cache, Int32Array.of(1), blockOf(9));
    const expected = await asynchronous[name]!().result;
    await native.cacheWrite(cache, Int32Array.of(1), blockOf(9));
    const { arrays, result } = asynchronous[name]!();
    for (const array of arrays) disturbances[how]!(array);
    expect(await result).toEqual(expected);
  });
});

describe("the array that a read ends in", () => {
  test.each([
    ["shrunk", blockBytes / 2],
    ["grown", blockBytes * 2],
  ])("is left alone where it was %s meanwhile: it is of another length", async (_, length) => {
    const { array: out, resize } = resizable(Uint8Array, blockBytes, false);
    const reading = native.cacheRead(cache, Int32Array.of(1), out);
    resize(length);
    await expect(reading).rejects.toMatchObject({
      name: "RangeError",
      message: `out: its length must be ${blockBytes}, not ${length}`,
    });
    expect(out.every((byte) => byte === 0)).toBe(true);
  });
});

describe("a kernel, which is done when its call returns,", () => {
  const x = Float32Array.of(1, 2, 3);
  const sum = Float32Array.of(2, 4, 6);

  test("takes arrays of buffers that can be resized, and of shared ones that can grow", () => {
    for (const fixed of [true, false]) {
      const { array: out } = resizable(Float32Array, 3, fixed);
      add({ x, y: x, out });
      expect(out).toEqual(sum);
    }
    const { array: out, grow } = growable(Float32Array, 3);
    add({ x, y: x, out });
    expect([...out]).toEqual([...sum]);
    grow(6);
    expect(() => add({ x, y: x, out })).toThrow("out: its length must be 3, not 6");
  });

  test.each([true, false])("sees that a buffer has shrunk (its array of a fixed length: %s)", (fixed) => {
    const { array: out, resize } = resizable(Float32Array, 3, fixed);
    resize(2);
    expect(() => add({ x, y: x, out })).toThrow(`out: its length must be 3, not ${fixed ? 0 : 2}`);
    resize(12);
    expect(() => add({ x, y: x, out: detached(out) })).toThrow("out: must not be detached");
  });

  test("looks memory up when all getters have run: one may shrink what another gave", () => {
    const { array: k, resize } = resizable(Float32Array, 128);
    const trap = {
      ...shape,
      blocks: 1,
      k,
      get v() {
        resize(1);
        return new Float32Array(128);
      },
    };
    const options = { heads: 1, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };
    const tokens = { ...one(), blocks: Int32Array.of(0) };
    expect(() => native.rope(device, tokens, options, trap, new Float32Array(24))).toThrow(
      "cache.k: its length must be 128, not 0",
    );
  });
});
