/** LLaMA-Adapter's gated prefix, beside attention, as an op of programs. */
import { describe, expect, test } from "vitest";

import { Device, type DeviceOptions } from "../lib/device.js";
import { native, type TensorHandle } from "../lib/native.js";
import { Program } from "../lib/program.js";
import { Xoshiro128 } from "../lib/random.js";
import { expectClose, expectSameBits } from "./support/compare.js";
import { executions, scalar } from "./support/isas.js";
import { bytesOf } from "./support/lora.js";

interface Shape {
  length: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** What the op reads, [tokens, …] each: of q only the first heads · headDim columns are queries. */
interface Operands extends Shape {
  qkv: Float32Array;
  keys: Float32Array;
  values: Float32Array;
  gates: Float32Array;
  out: Float32Array;
}

function operands(shape: Shape, tokens: number, seed: number): Operands {
  const { length, heads, kvHeads, headDim } = shape;
  const random = Xoshiro128.fromSeed(seed);
  const floats = (count: number, largest = 2) =>
    Float32Array.from({ length: count }, () => (random.next() / 2 ** 31 - 1) * largest);
  return {
    ...shape,
    qkv: floats(tokens * (heads + 2 * kvHeads) * headDim),
    keys: floats(length * kvHeads * headDim),
    values: floats(length * kvHeads * headDim),
    gates: floats(heads, 1),
    out: floats(tokens * heads * headDim),
  };
}

/** The op's result on a device, of tokens that look their rows up. */
async function run(options: DeviceOptions, of: Operands): Promise<Float32Array> {
  using device = new Device(options);
  const { heads, kvHeads, headDim } = of;
  const shape = { keys: "f32", values: "f32", layers: 1, kvHeads, headDim } as const;
  const tensors: TensorHandle[] = [];
  const kept = (tensor: TensorHandle, rows: number, floats: Float32Array) => {
    native.tensorPack(tensor, 0, rows, bytesOf(floats));
    tensors.push(tensor);
    return tensor;
  };
  const matrix = (cols: number, floats: Float32Array) => {
    const rows = floats.length / cols;
    return kept(native.matrixCreate(device.handle, "f32", rows, cols), rows, floats);
  };
  const vector = (floats: Float32Array) => kept(native.vectorCreate(device.handle, "f32", floats.length), 1, floats);

  using program = new Program(device, shape);
  const [wide, width] = [(heads + 2 * kvHeads) * headDim, heads * headDim];
  const qkv = program.value("tokens", wide);
  const out = program.value("tokens", width);
  const result = program.value("outputs", width);
  program.embed(matrix(wide, of.qkv), qkv);
  program.embed(matrix(width, of.out), out);
  program.prefixAttention(qkv, vector(of.keys), vector(of.values), vector(of.gates), out);
  program.select(out, result);
  program.finish(result);
  const count = of.out.length / width;
  const cache = native.cacheCreate(device.handle, shape, 1);
  const all = Int32Array.from({ length: count }, (_, i) => i);
  const logits = await program.run(cache, {
    tokens: all,
    positions: all,
    lengths: Int32Array.of(count),
    pasts: Int32Array.of(0),
    blockCounts: Int32Array.of(1),
    blocks: Int32Array.of(0),
    outputs: all,
  });
  for (const handle of [...tensors, cache]) native.free(handle);
  return logits;
}

/** Zhang et al. 2023, §3.2, in float64. */
function reference({ qkv, keys, values, gates, out, length, heads, kvHeads, headDim }: Operands): Float64Array {
  const [wide, width] = [(heads + 2 * kvHeads) * headDim, heads * headDim];
  return Float64Array.from(out, (before, i) => {
    const [token, head, d] = [Math.floor(i / width), Math.floor((i % width) / headDim), i % headDim];
    const at = (j: number) => (j * kvHeads + Math.floor((head * kvHeads) / heads)) * headDim;
    const scores = Array.from({ length }, (_, j) => {
      let dot = 0;
      for (let k = 0; k < headDim; k++) dot += qkv[token * wide + head * headDim + k]! * keys[at(j) + k]!;
      return dot / Math.sqrt(headDim);
    });
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return before + gates[head]! * weights.reduce((sum, weight, j) => sum + (weight / total) * values[at(j) + d]!, 0);
  });
}

const shapes: readonly Shape[] = [
  { length: 10, heads: 4, kvHeads: 4, headDim: 64 },
  { length: 1, heads: 1, kvHeads: 1, headDim: 8 },
  { length: 17, heads: 6, kvHeads: 2, headDim: 40 },
  { length: 16, heads: 3, kvHeads: 3, headDim: 24 },
  { length: 256, heads: 2, kvHeads: 1, headDim: 256 },
  { length: 10, heads: 32, kvHeads: 32, headDim: 128 },
];

describe.each(shapes)("a prefix of $length, $heads heads over $kvHeads of $headDim", (shape) => {
  test("is the formula's in float64", async () => {
    const of = operands(shape, 3, 1);
    // Sums of up to 256 products of up to 4, and as many weights of at most 1 in all times values of at most 2.
    expectClose(await run(scalar, of), reference(of), () => 4e-6);
  });

  test("has the scalar kernel's bits on every instruction set and any number of threads", async () => {
    const of = operands(shape, 5, 2);
    const expected = await run(scalar, of);
    for (const execution of executions) expectSameBits(await run(execution, of), expected);
  });
});

test("NaN and infinities come out as the scalar kernel has them, of their own token alone", async () => {
  const of = operands({ length: 10, heads: 4, kvHeads: 2, headDim: 24 }, 4, 3);
  const expected = await run(scalar, of);
  const row = (4 + 2 * 2) * 24;
  of.qkv[row + 5] = Number.NaN;
  of.qkv[2 * row + 30] = Number.POSITIVE_INFINITY;
  const spoilt = await run(scalar, of);
  expect(spoilt.slice(96, 120).every(Number.isNaN)).toBe(true);
  expectSameBits(spoilt.subarray(0, 96), expected.subarray(0, 96));
  expectSameBits(spoilt.subarray(120, 192), expected.subarray(120, 192));
  for (const execution of executions) {
    const found = await run(execution, of);
    expect(Array.from(found, Number.isNaN)).toEqual(Array.from(spoilt, Number.isNaN));
  }
});

test("what does not fit is refused", () => {
  using device = new Device(scalar);
  using program = new Program(device, { keys: "f32", values: "f32", layers: 1, kvHeads: 2, headDim: 8 });
  const vector = (size: number) => native.vectorCreate(device.handle, "f32", size);
  const [qkv, out, outputs] = [program.value("tokens", 64), program.value("tokens", 32), program.value("outputs", 32)];
  const [prefix, gates] = [vector(3 * 16), vector(4)];
  const matrix = native.matrixCreate(device.handle, "f32", 3, 16);
  const sound = { qkv, keys: prefix, values: prefix, gates, out };
  const record = (wrong: Partial<typeof sound>) => () => {
    const { qkv, keys, values, gates, out } = { ...sound, ...wrong };
    program.prefixAttention(qkv, keys, values, gates, out);
  };
  const refusals: [Partial<typeof sound>, string][] = [
    [{ keys: matrix }, "keys: must be a vector, not a matrix"],
    [{ values: matrix }, "values: must be a vector, not a matrix"],
    [{ gates: matrix }, "gates: must be a vector, not a matrix"],
    [{ keys: vector(40) }, "keys: must be 1 to 256 of kvHeads * headDim 16, not 40"],
    [{ keys: vector(257 * 16) }, "keys: must be 1 to 256 of kvHeads * headDim 16, not 4112"],
    [{ values: vector(16) }, "values: must be as many as keys, 48, not 16"],
    [{ gates: vector(3) }, "gates: must be one for each head, a multiple of kvHeads 2, not 3"],
    [{ gates: vector(6) }, "qkv: must be 80 wide, not 64"],
    [{ qkv: out }, "qkv: must be 64 wide, not 32"],
    [{ out: qkv }, "out: must be 32 wide, not 64"],
    [{ out: outputs }, "out: must have a row for each token, or for each output, as x has"],
  ];
  for (const [wrong, message] of refusals) expect(record(wrong), message).toThrow(message);
  record({})();
});
