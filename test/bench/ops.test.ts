import { describe, expect, it, onTestFinished, vi } from "vitest";
import { pairs } from "../../bench/ops/attention.js";
import { ops } from "../../bench/ops/index.js";
import { leastSeconds, readBound } from "../../bench/ops/op.js";
import { largestError, measureOps } from "../../bench/ops.js";
import type { Limits, Result } from "../../bench/schema.js";
import { shapes } from "../../bench/shapes.js";
import { native } from "../../lib/native.js";
import { weightFormats } from "../../lib/weights/source.js";
import { available } from "../support/isas.js";

const limits: Limits = {
  readGBs: 10,
  copyGBs: 20,
  fmaGflops: 100,
  maddubsGops: 400,
  dpbusdGops: 1000,
  bf16dotGflops: null,
};

/** The work of an op's problem of that name. */
function workOf(op: string, shape: string, tokens: number, format?: string) {
  const model = shape.slice(0, shape.indexOf("."));
  const found = ops[op]!.problems(model, [tokens]).filter((it) => it.shape === shape && it.format === format);
  expect(found).toHaveLength(1);
  return found[0]!.work;
}

describe("the model of an op's work", () => {
  it.each([
    // 12288 x 4096 weights, 18 bytes for each 32; two operations a weight and token
    ["matmul_q4", "7b.qkv", 2, "q4_0", 28_311_552, 201_326_592],
    ["matmul_q8", "7b.out", 1, "q8_0", 17_825_792, 33_554_432],
    // 864 x 288 weights, 34 bytes for each 32 of the 320 columns that are packed
    ["matmul_q8", "stories15m.qkv", 1, "q8_0", 293_760, 497_664],
    // 4096 x 11008 weights, 144 bytes for each 256
    ["matmul_q4_k", "7b.down", 1, "q4_K", 25_362_432, 90_177_536],
    // 64 heads of q, 8 of k and of v, of 128 dimensions each: 10240 x 8192
    ["matmul_f", "70b.qkv", 1, "f16", 167_772_160, 167_772_160],
    ["matmul_f", "7b.down", 1, "f32", 180_355_072, 90_177_536],
    // 3 tokens see 1 + 2 + 3 keys: 6 pairs of 32 heads of 128 dimensions; K and V of 3 tokens, 8192 bytes each
    ["attention", "7b.heads", 3, "f16", 49_152, 98_304],
    ["attention", "7b.context512", 1, "f16", 8_404_992, 8_404_992],
    ["attention", "70b.context512", 1, "f16", 2_101_248, 16_809_984], // 8 heads of k for 64 of q
    ["rmsnorm", "7b.dim", 2, undefined, 65_536, 0],
    ["swiglu", "7b.ffn", 1, undefined, 132_096, 0],
    ["add", "13b.dim", 1, undefined, 61_440, 0],
    ["quantize", "7b.dim", 1, undefined, 21_504, 0],
    // q and k, 4096 floats each, read and written; v's read; both in two bytes each
    ["rope", "7b.heads", 1, "f16", 98_304, 0],
    ["embed", "7b.dim", 1, "q4_0", 53_248, 0],
  ] as const)("of %s/%s/%d in %s", (op, shape, tokens, format, bytes, operations) => {
    expect(workOf(op, shape, tokens, format)).toMatchObject({ bytes, operations });
  });

  it("counts the keys that queries see", () => {
    expect(pairs(0, 4)).toBe(1 + 2 + 3 + 4);
    expect(pairs(10, 2)).toBe(11 + 12);
  });

  it("is of a product with each type of weights, in one op", () => {
    const formats = Object.keys(ops)
      .filter((name) => name.startsWith("matmul_"))
      .flatMap((name) => [...new Set(ops[name]!.problems("7b", [1]).map(({ format }) => format))]);
    expect(formats.sort()).toEqual(Object.keys(weightFormats).sort());
  });
});

describe("an op's limit", () => {
  it("is the slower of memory and operations", () => {
    const one = workOf("matmul_q4", "7b.qkv", 1, "q4_0");
    const many = workOf("matmul_q4", "7b.qkv", 512, "q4_0");
    expect(leastSeconds(one, "avx512", limits)).toBeCloseTo(28_311_552 / 10e9, 12);
    expect(leastSeconds(many, "avx512", limits)).toBeCloseTo((512 * 100_663_296) / 1000e9, 12);
    expect(leastSeconds(many, "avx2", limits)).toBeCloseTo((512 * 100_663_296) / 400e9, 12);
    expect(leastSeconds(workOf("add", "7b.dim", 1), "avx2", limits)).toBeCloseTo(49_152 / 20e9, 12);
  });

  it("is reading memory at few tokens, and never of rows in caches", () => {
    expect(readBound(workOf("matmul_q4", "7b.qkv", 1, "q4_0"), "avx512", limits)).toBe(true);
    expect(readBound(workOf("matmul_q4", "7b.qkv", 512, "q4_0"), "avx512", limits)).toBe(false);
    expect(readBound(workOf("attention", "7b.context2048", 1, "f16"), "avx2", limits)).toBe(true);
    expect(readBound(workOf("add", "7b.dim", 1), "avx2", limits)).toBe(false);
  });

  it("is unknown where the peak is", () => {
    const none = { ...limits, maddubsGops: null, fmaGflops: null };
    expect(leastSeconds(workOf("matmul_q4", "7b.qkv", 1, "q4_0"), "scalar", none)).toBeNull();
    expect(leastSeconds(workOf("add", "7b.dim", 1), "scalar", none)).toBeGreaterThan(0);
  });
});

describe("an op's error", () => {
  it("is 0 for the same bits alone, and NaN where there is one", () => {
    const of = (...values: number[]) => Float32Array.from(values);
    expect(largestError(of(1, 2), of(1, 2))).toBe(0);
    expect(largestError(of(1, 2.5), of(1, 2))).toBe(0.5);
    expect(largestError(of(0), of(-0))).toBeGreaterThan(0);
    expect(largestError(of(1, Number.NaN), of(1, 2))).toBeNaN();
    expect(largestError(of(Number.NaN, 3), of(Number.NaN, 2))).toBeNaN();
  });
});

describe("measuring ops", () => {
  it.each(Object.keys(ops))("%s has work, and a name of its own, at every model's shapes", (name) => {
    for (const model of Object.keys(shapes)) {
      const problems = ops[name]!.problems(model, [1, 128, 512]);
      // Of stories15m, whose dim is 288, the K-quants fit one matrix alone, down.
      expect(problems.length).toBeGreaterThanOrEqual(name.endsWith("_k") && model === "stories15m" ? 1 : 3);
      const names = problems.map(({ shape, tokens, format }) => `${shape}/${tokens}/${format}`);
      expect(new Set(names).size).toBe(names.length);
      for (const { shape, work } of problems) {
        expect(shape.startsWith(`${model}.`)).toBe(true);
        expect(Number.isSafeInteger(work.bytes) && work.bytes > 0).toBe(true);
        expect(Number.isSafeInteger(work.operations) && work.operations >= 0).toBe(true);
        expect(leastSeconds(work, "avx512", limits)).toBeGreaterThan(0);
      }
    }
  });

  it.each([
    ["qkv", 192, "programMatmul"],
    ["out", 192, "programMatmulAdd"],
    ["gate_up", 96, "programMatmulSwiglu"],
    ["down", 192, "programMatmulAdd"],
    ["output", 192, "programMatmul"],
  ] as const)("%s is cut to several blocks of tokens, and run as the model runs it", async (matrix, width, fused) => {
    const problem = ops.matmul_q4!.problems("7b", [512]).find(({ shape }) => shape === `7b.${matrix}`)!;
    const spy = vi.spyOn(native, fused);
    onTestFinished(() => spy.mockRestore());
    expect(await problem.result({ threads: 1 })).toHaveLength(257 * width);
    expect(spy).toHaveBeenCalledOnce();
  });

  it.each(Object.keys(ops))("%s is as right as the scalar kernel, at shapes of 7B and 70B", async (name) => {
    for (const model of ["7b", "70b"]) {
      for (const problem of ops[name]!.problems(model, [1, 257])) {
        const expected = await problem.result({ isa: "scalar", threads: 1 });
        expect(expected.length).toBeGreaterThan(0);
        expect(expected.some((value) => value !== 0)).toBe(true);
        expect(largestError(await problem.result({ threads: 2 }), expected)).toBe(0);
      }
    }
  });

  it("tells of each op on each device, and how far it is", async () => {
    const spy = vi.spyOn(native, "measureLimit");
    spy.mockImplementation(async (_device, _limit, samples) => new Float64Array(samples).fill(2 ** 34));
    onTestFinished(() => spy.mockRestore());
    const isa = available.at(-1)!;
    const told: Result[] = [];
    const progress: [number, number][] = [];
    const { results } = await measureOps({
      ops: ["rmsnorm", "attention", "quantize", "rope", "swiglu", "embed"],
      shapes: ["stories15m"],
      tokens: [2],
      isas: [isa],
      threads: [1],
      onResult: (result) => told.push(result),
      onProgress: (done, total) => progress.push([done, total]),
    });
    expect(told).toEqual(results);
    expect(progress.at(-1)).toEqual([7, 7]);
    expect(results.map(({ name }) => name)).toEqual([
      "rmsnorm/stories15m.dim/2",
      "attention/stories15m.heads/2",
      "quantize/stories15m.dim/2",
      "quantize/stories15m.ffn/2",
      "rope/stories15m.heads/2",
      "swiglu/stories15m.ffn/2",
      "embed/stories15m.dim/2",
    ]);
    for (const { value, micros, samples, error, isa: ran, share, limit } of results) {
      expect({ error, isa: ran }).toEqual({ error: 0, isa });
      expect(samples).toBeGreaterThanOrEqual(1);
      for (const number of [value, micros, limit]) expect(number).toBeGreaterThan(0);
      expect(share).toBeCloseTo(value / limit!, 12);
    }
  });
});
