import { describe, expect, it, onTestFinished, vi } from "vitest";
import { shapes } from "../../bench/shapes.js";
import { measureTokens, promptOperations, TokensBench, tokenOperations } from "../../bench/tokens.js";
import { native } from "../../lib/native.js";
import { weightBytes } from "../../lib/weights/source.js";
import { available } from "../support/isas.js";

/** What is said of every limit, in bytes or operations a second. */
const rate = 2 ** 30;

function skipLimits(): void {
  const spy = vi.spyOn(native, "measureLimit");
  spy.mockImplementation(async (_device, _limit, samples) => new Float64Array(samples).fill(rate));
  onTestFinished(() => spy.mockRestore());
}

/** Weights of stories15M that one token reads, in f32: the output's, which are the embedding's, and those of 6 layers. */
const weights = 32_000 * 288 + 6 * (4 * 288 * 288 + 3 * 288 * 768);
const bytes = weightBytes("f32", 1, weights + 13 * 288);

const options = { shape: "stories15m", format: "f32", prompt: 3, gen: 2, threads: 1, isa: "scalar" } as const;

describe("the operations of a model", () => {
  it("of 7B are two for each weight", () => {
    expect(tokenOperations(shapes["7b"]!)).toBe(2 * (32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) + 32_000 * 4096));
  });

  it("of 70B know of its grouped queries", () => {
    const layer = 2 * 8192 * 8192 + 2 * 1024 * 8192 + 3 * 8192 * 28672;
    expect(tokenOperations(shapes["70b"]!)).toBe(2 * (80 * layer + 32_000 * 8192));
  });

  it("of a prompt leave out what its last layer does for the last token alone", () => {
    const [qkv, others] = [3 * 4096 * 4096, 4096 * 4096 + 3 * 4096 * 11008];
    const each = 32 * qkv + 31 * others;
    expect(promptOperations(shapes["7b"]!, 128)).toBe(2 * (128 * each + others + 32_000 * 4096));
  });
});

describe("tokens per second", () => {
  it("of several sequences, each with a context of its own", async () => {
    skipLimits();
    const { results, limits } = await measureTokens({ ...options, context: 20, sequences: 3 });
    expect(limits).toMatchObject({ readGBs: rate / 1e9, copyGBs: rate / 1e9 });
    expect(results.map(({ name }) => name)).toEqual(["prefill", "decode"]);
    const decode = results[1]!;
    expect(decode.at).toEqual({ model: "stories15m", format: "f32", context: 20, gen: 2, sequences: 3 });
    // The token itself and those before it, 21 and 22 of them; K and V in 6 layers of 288 halves.
    const cached = 21.5 * 2 * 6 * 288 * 2;
    const memory = (3 * rate) / (bytes + 3 * cached);
    const operations = rate / (2 * weights);
    expect(decode.limit).toBeCloseTo(Math.min(memory, operations), 6);
    for (const { value, samples, spread } of results) {
      expect(value).toBeGreaterThan(0);
      expect(samples).toBeGreaterThanOrEqual(3);
      expect(spread).toBeGreaterThanOrEqual(0);
    }
  });

  it.runIf(available.includes("avx2"))(
    "of a prompt is held against the peak, or reading the weights once",
    async () => {
      skipLimits();
      const { results } = await measureTokens({ ...options, isa: "avx2", prompt: 12 });
      expect(results[0]!.limit).toBeCloseTo((12 * rate) / promptOperations(shapes.stories15m!, 12), 6);
      const { results: short } = await measureTokens({ ...options, isa: "avx2" });
      expect(short[0]!.limit).toBeCloseTo((3 * rate) / bytes, 6);
      expect(results[0]!.share).toBeCloseTo(results[0]!.value / results[0]!.limit!, 12);
    },
  );

  it("of decoding is held against what its model names, and all that was read is in the limits", async () => {
    let reads = 0;
    const spy = vi.spyOn(native, "measureLimit");
    spy.mockImplementation(async (_device, limit, samples) => {
      const burst = limit === "read" && ++reads === 3; // of a round: the first is the limits'
      return new Float64Array(samples).fill(burst ? 4 * rate : rate);
    });
    onTestFinished(() => spy.mockRestore());
    const { limits, results } = await measureTokens({ ...options, isa: available.at(-1)! });
    expect(limits.readGBs).toBe((4 * rate) / 1e9);
    const decode = results[1]!;
    expect(decode.model).toContain("once a step, at 1.1 GB/s: the median over the rounds");
    const cached = 4.5 * 2 * 6 * 288 * 2; // 3 tokens, and on average one and a half since
    expect(decode.limit! * (bytes + cached)).toBeCloseTo(rate, -1);
  });

  it("come round by round, for what is measured in between", async () => {
    skipLimits();
    using bench = await TokensBench.open(options);
    for (let i = 0; i < 2; i++) {
      const round = await bench.round();
      expect(round.readGBs).toBe(rate / 1e9);
      expect(round.prefill).toBeGreaterThan(0);
      expect(round.decode).toBeGreaterThan(0);
    }
  });
});
