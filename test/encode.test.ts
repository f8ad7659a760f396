import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { native } from "../lib/native.js";
import { Xoshiro128 } from "../lib/random.js";
import { readGguf } from "../lib/weights/gguf.js";
import { type WeightType, weightBytes, weightFormats } from "../lib/weights/source.js";
import { random } from "./support/arbitraries.js";
import { dataFile, needFiles } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";
import { toHalf } from "./support/half.js";
import { decodeQuantised, isQuantised } from "./support/quantised.js";
import { referenceEncode } from "./support/reference-encode.js";
import { randomWeights } from "./support/weights.js";

const types = Object.keys(weightFormats) as WeightType[];
const quantised = types.filter(isQuantised);
const device = new Device({ device: "cpu", threads: 2 });

async function encoded(type: WeightType, cols: number, x: Float32Array, on = device): Promise<Uint8Array> {
  const out = new Uint8Array(weightBytes(type, x.length / cols, cols));
  await native.weightsEncode(on.handle, type, cols, x, out);
  return out;
}

function decoded(type: WeightType, cols: number, bytes: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  native.weightsDecode(type, cols, bytes, out);
  return out;
}

/** Normally distributed numbers (Box and Muller 1958), each through `shape`. */
function normal(count: number, seed: number, shape = (x: number) => x): Float32Array {
  const random = Xoshiro128.fromSeed(seed);
  const uniform = () => (random.next() + 1) / 2 ** 32;
  return Float32Array.from({ length: count }, () =>
    shape(Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())),
  );
}

/** The root of the mean of the squared differences. */
const rmse = (x: ArrayLike<number>, y: ArrayLike<number>) =>
  Math.sqrt(Array.from(x).reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0) / x.length);

/** The weights of the matrices of a GGUF file in f32, one after another, as whole blocks of 256. */
async function matricesOf(path: string): Promise<Float32Array> {
  const bytes = readFileSync(path);
  const { tensors } = await readGguf(path);
  const parts = [...tensors.values()].filter(({ type, rows }) => type === "f32" && rows > 1);
  const all = Buffer.concat(parts.map(({ offset, bytes: size }) => bytes.subarray(offset, offset + size)));
  return wholeBlocks(new Float32Array(Uint8Array.from(all).buffer));
}

/** Those of the largest tensor of a safetensors file in F32. */
function largestOf(path: string): Float32Array {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header: Record<string, { data_offsets?: [number, number] }> = JSON.parse(bytes.toString("utf8", 8, start));
  const ranges = Object.values(header).flatMap(({ data_offsets }) => (data_offsets ? [data_offsets] : []));
  const [from, to] = ranges.sort(([a, b], [c, d]) => d - c - (b - a))[0]!;
  return wholeBlocks(new Float32Array(Uint8Array.from(bytes.subarray(start + from, start + to)).buffer));
}

/** Not all of them: the reference is slow. */
const wholeBlocks = (x: Float32Array) => x.slice(0, Math.min(65_536, Math.floor(x.length / 256) * 256));

const sources: Readonly<
  Record<string, { file?: string[]; read: (path: string) => Float32Array | Promise<Float32Array> }>
> = {
  "normal weights": { read: () => normal(32_768, 1, (x) => 0.02 * x) },
  "weights with heavy tails": { read: () => normal(32_768, 2, (x) => 0.01 * x ** 3) },
  "weights that are all of one sign": { read: () => normal(32_768, 3, (x) => 1 + 0.3 * Math.abs(x)) },
  "random weights of a fixture": { file: ["fixtures", "tiny-f32.gguf"], read: matricesOf },
  "the weights of stories260K": { file: ["stories260K", "stories260Ktok512.gguf"], read: matricesOf },
  "the weights of TinyStories-656K": { file: ["tinystories-656k-hf", "model.safetensors"], read: largestOf },
};

describe.each(Object.entries(sources))("of %s", (_, { file, read }) => {
  test.for(quantised)("%s errs no more than GGML's formula", async (type, context) => {
    const path = dataFile(...(file ?? []));
    if (file !== undefined) needFiles(context, path);
    const x = await read(path);
    const own = rmse(x, decoded(type, 256, await encoded(type, 256, x), x.length));
    expect(own).toBeGreaterThan(0);
    expect(own).toBeLessThanOrEqual(rmse(x, referenceEncode(type, x)));
  });
});

describe("encoding", () => {
  test.each(types)("to %s gives the same bytes on any number of threads, and in any rows", async (type) => {
    const [rows, cols] = [37, 512];
    const x = normal(rows * cols, 4);
    const one = await encoded(type, cols, x, new Device({ device: "cpu", threads: 1, isa: "scalar" }));
    for (const threads of [2, 3]) {
      expect(Buffer.compare(await encoded(type, cols, x, new Device({ device: "cpu", threads })), one)).toBe(0);
    }
    expect(Buffer.compare(await encoded(type, 256, x), one)).toBe(0);
  });

  test("to f32, f16 and bf16 rounds to the nearest", async () => {
    const x = normal(4096, 5, (value) => value ** 5 * 1e-4);
    const words = async (type: WeightType) => new Uint16Array((await encoded(type, 4096, x)).buffer);
    expect(new Float32Array((await encoded("f32", 4096, x)).buffer)).toEqual(x);
    expect(await words("f16")).toEqual(Uint16Array.from(x, toHalf));
    const narrowed = decoded("bf16", 4096, new Uint8Array((await words("bf16")).buffer), 4096);
    for (const [i, value] of x.entries())
      expect(Math.abs(narrowed[i]! - value)).toBeLessThanOrEqual(Math.abs(value) / 256);
  });

  test.each(quantised)("to %s keeps zeros", async (type) => {
    const zeros = new Float32Array(512);
    expect(decoded(type, 512, await encoded(type, 512, zeros), 512)).toEqual(zeros);
  });

  test.each(quantised)("to %s takes the largest and the smallest weights", async (type) => {
    for (const size of [65504, 1e-8, 1e-20, 1e-40]) {
      const x = normal(1024, 6, (value) => Math.max(-1, Math.min(1, value)) * size);
      const back = decoded(type, 256, await encoded(type, 256, x), 1024);
      expect(rmse(x, back)).toBeLessThanOrEqual(size > 1 ? 0.4 * size : size);
    }
  });

  test.each(quantised)("to %s keeps weights that are all but the same", async (type) => {
    const next = Xoshiro128.fromSeed(10);
    for (let i = 0; i < 50; i++) {
      const value = Math.fround((next.next() / 2 ** 32 + 0.5) * (i % 2 === 0 ? 1 : -1));
      const neighbour = Math.fround(value * (1 + (i % 3 === 0 ? 1 : -1) * 2 ** -24 * 1.5));
      expect(neighbour).not.toBe(value);
      // One of a block's weights, or one of each group's.
      const x = Float32Array.from({ length: 256 }, (_, k) => (k % 32 === i % 32 ? neighbour : value));
      const back = decoded(type, 256, await encoded(type, 256, x), 256);
      expect(rmse(x, back)).toBeLessThan(2e-3);
    }
  });

  test.each(types)("to %s refuses what is no number, by row and column", async (type) => {
    for (const [value, shown] of [
      [Number.NaN, "nan"],
      [Number.NEGATIVE_INFINITY, "-inf"],
    ] as const) {
      const x = normal(8 * 256, 7);
      for (const at of [5 * 256 + 17, 6 * 256 + 3, 7 * 256]) x[at] = value;
      await expect(encoded(type, 256, x)).rejects.toMatchObject({
        code: "ERR_CRIA_NUMBERS",
        message: expect.stringMatching(
          new RegExp(`^row 5, column 17: must be a number of at most \\S+ in ${type}, not ${shown}$`),
        ),
      });
    }
  });

  test("refuses weights beyond f16 where scales are f16", async () => {
    const x = new Float32Array(256).fill(70_000);
    await expect(encoded("q8_0", 256, x)).rejects.toThrow(
      "row 0, column 0: must be a number of at most 65504 in q8_0, not 70000",
    );
    expect((await encoded("bf16", 256, x)).length).toBe(512);
  });

  test("refuses arrays that are not as long as their rows", async () => {
    const x = new Float32Array(64);
    await expect(native.weightsEncode(device.handle, "q8_0", 32, x, new Uint8Array(67))).rejects.toMatchObject({
      code: "ERR_CRIA_ARGUMENT",
      message: "bytes: must be 68 for that many rows, not 67",
    });
    await expect(native.weightsEncode(device.handle, "q4_K", 64, x, new Uint8Array(36))).rejects.toThrow(
      "cols: must be a multiple of 256 in q4_K, not 64",
    );
    expect(() => native.weightsEncode(device.handle, "q8_0", 48, x, new Uint8Array(68))).toThrow(
      "x: its length must be a multiple of cols 48, not 64",
    );
  });
});

describe("decoding", () => {
  test.each(quantised)("%s gives the floats nearest to what the blocks say", (type) => {
    fc.assert(
      fc.property(random, (next) => {
        const { data } = randomWeights(type, 2, 256, next);
        const exact = new Float64Array(512);
        decodeQuantised(type, data as Uint8Array, exact);
        // + 0, for a zero may have either sign.
        const floats = decoded(type, 256, data as Uint8Array, 512).map((x) => x + 0);
        expect(floats).toEqual(Float32Array.from(exact, (x) => x + 0));
      }),
      { numRuns: 20 },
    );
  });
});

describe("weights so small that binary16 has no steps for them", () => {
  test.each(quantised)("%s keeps what it can of them", async (type) => {
    const x = normal(4096, 9);
    const relativeError = async (size: number) => {
      const small = x.map((value) => value * size);
      return rmse(small, decoded(type, 256, await encoded(type, 256, small), small.length)) / size;
    };
    // Steps of 2^-24 cost up to a tenth more; a block of zeros would cost all.
    for (const size of [3e-5, 1e-5]) expect(await relativeError(size)).toBeLessThan((await relativeError(0.01)) + 0.1);
  });
});

describe("converting while packing", () => {
  const [rows, cols] = [37, 512];
  const x = normal(rows * cols, 8);
  const pairs = [
    ["f32", "q4_K"],
    ["bf16", "q8_0"],
    ["f16", "q4_0"],
    ["q8_0", "q6_K"],
    ["q4_0", "q4_0"],
  ] as const;

  test.each(pairs)("%s to %s is decoding and encoding, from memory and from a file", async (from, to) => {
    const source = await encoded(from, cols, x);
    const expected = from === to ? source : await encoded(to, cols, decoded(from, cols, source, x.length));
    await using folder = await temporaryFolder();
    const path = join(folder.path, "weights");
    await writeFile(path, Buffer.concat([Buffer.alloc(7), source]));
    const rowBytes = weightBytes(from, 1, cols);
    const packed = native.matrixCreate(device.handle, to, rows, cols);
    const unpacked = new Uint8Array(expected.length);

    native.tensorConvert(packed, 0, rows, from, source);
    native.tensorUnpack(packed, 0, rows, unpacked);
    expect(Buffer.compare(unpacked, expected)).toBe(0);

    const read = native.matrixCreate(device.handle, to, rows, cols);
    await native.tensorConvertFile(read, 20, rows - 20, path, 7 + 20 * rowBytes, from);
    await native.tensorConvertFile(read, 0, 20, path, 7, from);
    native.tensorUnpack(read, 0, rows, unpacked);
    expect(Buffer.compare(unpacked, expected)).toBe(0);
  });

  test("names the row of the tensor that holds no number", async () => {
    const spoilt = x.slice();
    spoilt[3 * cols + 5] = Number.NaN;
    const matrix = native.matrixCreate(device.handle, "q8_0", 2 * rows, cols);
    expect(() => native.tensorConvert(matrix, rows, rows, "f32", new Uint8Array(spoilt.buffer))).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_NUMBERS", message: expect.stringMatching(/^row 40, column 5: /) }),
    );
  });

  test("wants the bytes of the type that they come in, and whole blocks of it", () => {
    const matrix = native.matrixCreate(device.handle, "q8_0", 2, 64);
    expect(() => native.tensorConvert(matrix, 0, 2, "f16", new Uint8Array(255))).toThrow(
      "bytes: must be 256 for that many rows, not 255",
    );
    expect(() => native.tensorConvert(matrix, 0, 2, "q4_K", new Uint8Array(144))).toThrow(
      "cols: must be a multiple of 256 in q4_K, not 64",
    );
  });
});
