/** Arrays that share memory: an output that overlaps another array is refused, whatever the overlap, and nothing else is. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { batchOf } from "../../bench/cache.js";
import { native } from "../../lib/native.js";

const device = native.deviceOpen("cpu", "scalar", 1);
const weight = native.matrixCreate(device, "f32", 2, 4);
const shape = { keys: "f32", values: "f32", blocks: 1, kvHeads: 1, headDim: 8 } as const;
const options = { heads: 1, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };
const batch = batchOf([{ length: 1, past: 0, blocks: [0] }], () => 0, [0]);

/** A place in the memory that all arrays lie in. */
type Place = number;
const memory = new ArrayBuffer(4096);
const floats = (at: Place, length: number) => new Float32Array(memory, at, length);

interface Kernel {
  /** Bytes of each array. */
  bytes: readonly number[];
  /** Pairs, by index, that must lie apart, the written one first; `same` where they may be one and the same. */
  apart: readonly { out: number; in: number; same?: boolean }[];
  call: (...at: Place[]) => void;
}

const kernels: Record<string, Kernel> = {
  rmsnorm: {
    bytes: [24, 12, 24],
    apart: [
      { out: 2, in: 0, same: true },
      { out: 2, in: 1 },
    ],
    call: (x, w, out) => native.rmsnorm(device, floats(x!, 6), floats(w!, 3), 1, floats(out!, 6)),
  },
  quantize: {
    bytes: [12, 64, 8, 8],
    apart: [0, 1, 2, 3].flatMap((i) => [1, 2, 3].filter((out) => out > i).map((out) => ({ out, in: i }))),
    call: (x, quants, scales, sums) =>
      native.quantize(
        device,
        3,
        floats(x!, 3),
        new Int8Array(memory, quants, 64),
        floats(scales!, 2),
        new Int32Array(memory, sums, 2),
      ),
  },
  embed: {
    bytes: [8, 32],
    apart: [{ out: 1, in: 0 }],
    call: (tokens, out) => native.embed(device, weight, new Int32Array(memory, tokens, 2).fill(1), floats(out!, 8)),
  },
  matmul: {
    bytes: [32, 16],
    apart: [{ out: 1, in: 0 }],
    call: (x, out) => native.matmul(device, weight, floats(x!, 8), floats(out!, 4)),
  },
  rope: {
    bytes: [512, 512, 96],
    apart: [
      { out: 1, in: 0 },
      { out: 2, in: 0 },
      { out: 2, in: 1 },
    ],
    call: (k, v, qkv) =>
      native.rope(device, batch, options, { ...shape, k: floats(k!, 128), v: floats(v!, 128) }, floats(qkv!, 24)),
  },
  attention: {
    bytes: [512, 512, 32, 32],
    apart: [
      { out: 1, in: 0 },
      { out: 3, in: 0 },
      { out: 3, in: 1 },
      { out: 3, in: 2 },
    ],
    call: (k, v, q, out) => {
      const cache = { ...shape, k: floats(k!, 128), v: floats(v!, 128) };
      native.attention(device, batch, 1, cache, floats(q!, 8), 8, floats(out!, 8));
    },
  },
  swiglu: {
    bytes: [24, 12],
    apart: [{ out: 1, in: 0 }],
    call: (gateUp, out) => native.swiglu(device, 3, floats(gateUp!, 6), floats(out!, 3)),
  },
  add: {
    bytes: [12, 12, 12],
    apart: [
      { out: 2, in: 0, same: true },
      { out: 2, in: 1, same: true },
    ],
    call: (x, y, out) => native.add(device, floats(x!, 3), floats(y!, 3), floats(out!, 3)),
  },
};

describe.each(Object.entries(kernels))("%s", (_, { bytes, apart, call }) => {
  const room = bytes.reduce((sum, each) => sum + each, 0);
  // Twice the room that they need.
  const places = fc.tuple(...bytes.map(() => fc.nat({ max: room / 2 }).map((i) => 4 * i)));

  test("refuses an output that overlaps another of its arrays, and no other", () => {
    const outcomes = new Set<boolean>();
    const meets = (at: Place[]) => (pair: (typeof apart)[number]) => {
      const [o, i] = [at[pair.out]!, at[pair.in]!];
      return o < i + bytes[pair.in]! && i < o + bytes[pair.out]! && !(pair.same && o === i);
    };
    fc.assert(
      fc.property(places, (at) => {
        const overlaps = apart.some(meets(at));
        outcomes.add(overlaps);
        // Whatever is in the memory, no value is too large for a kernel, and no token id is.
        new Uint8Array(memory).fill(0);
        if (overlaps) expect(() => call(...at)).toThrow(/^\S+: must not overlap \S+$/);
        else call(...at);
      }),
      { numRuns: 1000 },
    );
    expect(outcomes.size).toBe(2);
  });
});
