import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import { type BeamCandidate, type BeamSearchOptions, beamSearch } from "../lib/beam.js";
import { loadModel, type Model, Tokenizer, tinyModel } from "../lib/index.js";
import { logProbability } from "../lib/logprobs.js";
import { type NativeBatch, native } from "../lib/native.js";
import type { Speaker } from "../lib/prompt.js";
import { Xoshiro128 } from "../lib/random.js";

/** Token 0 ends a text, 1 begins it. */
const tokenizer = new Tokenizer({
  pieces: ["</s>", "<s>", "a", "b", "c"],
  scores: new Float32Array(5),
  types: Uint8Array.of(3, 3, 1, 1, 1),
  bos: 1,
  eos: 0,
  unknown: undefined,
  addBos: true,
  addSpacePrefix: false,
} as never);

/** Logits that follow from the tokens before them. */
function logitsAfter(tokens: readonly number[], seed: number): Float32Array {
  const random = Xoshiro128.fromSeed(
    tokens.reduce((hash, token) => Math.imul(hash ^ (token + 1), 0x01000193), seed) >>> 0,
  );
  return Float32Array.from({ length: 5 }, () => (random.next() / 2 ** 32) * 4);
}

/** Speaks as {@link logitsAfter} says; counts the sequences that are not disposed, and the tokens read. */
class StubSpeaker implements Speaker {
  readonly tokenizer = tokenizer;
  readonly runtime: Speaker["runtime"];
  open = 0;
  read = 0;

  constructor(seed: number, contextLength = 100) {
    const sequence = (before: readonly number[]): object => {
      const tokens = [...before];
      this.open += 1;
      return {
        get length() {
          return tokens.length;
        },
        forward: async (next: Int32Array) => {
          tokens.push(...next);
          this.read += 1;
          return logitsAfter(tokens, seed);
        },
        fork: () => sequence(tokens),
        dispose: () => {
          this.open -= 1;
        },
      };
    };
    this.runtime = { contextLength, sequence: () => sequence([]) } as never;
  }
}

type Found = Pick<BeamCandidate, "tokens" | "logprob" | "score" | "finishReason">;

/** All texts that there can be, the best first. */
function exhaustive(seed: number, maxTokens: number, lengthPenalty: number): Found[] {
  const found: Found[] = [];
  const extend = (tokens: readonly number[], logprob: number) => {
    const logits = logitsAfter([1, ...tokens], seed);
    const score = (sum: number) => sum / (tokens.length + 1) ** lengthPenalty;
    for (let token = 0; token < 5; token++) {
      const sum = logprob + logProbability(logits, token);
      if (token === 0) found.push({ tokens: [...tokens], logprob: sum, score: score(sum), finishReason: "eos" });
      else if (tokens.length + 1 < maxTokens) extend([...tokens, token], sum);
      else found.push({ tokens: [...tokens, token], logprob: sum, score: score(sum), finishReason: "length" });
    }
  };
  extend([], 0);
  return found.sort((a, b) => b.score - a.score);
}

const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const bare = (candidates: readonly BeamCandidate[]) => candidates.map(({ text: _, ...rest }) => rest);

describe("a beam search", () => {
  test("that is wide enough finds all there is, in its order", async () => {
    await fc.assert(
      fc.asyncProperty(seeds, fc.constantFrom(0, 0.5, 1, -1), async (seed, lengthPenalty) => {
        const speaker = new StubSpeaker(seed);
        const all = exhaustive(seed, 3, lengthPenalty); // 1 + 4 + 16 + 64 texts
        const found = await beamSearch(speaker, "", { beams: 100, maxTokens: 3, lengthPenalty });
        expect(bare(found)).toEqual(
          all.map((one) => ({
            ...one,
            logprob: expect.closeTo(one.logprob, 10),
            score: expect.closeTo(one.score, 10),
          })),
        );
        expect(speaker.open).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("finds no better text than there is, and a better one than greedy most times", async () => {
    let better = 0;
    await fc.assert(
      fc.asyncProperty(seeds, async (seed) => {
        const options = { maxTokens: 5, lengthPenalty: 0 };
        const [best] = exhaustive(seed, 5, 0);
        const [greedy] = await beamSearch(new StubSpeaker(seed), "", { ...options, beams: 1 });
        const [found] = await beamSearch(new StubSpeaker(seed), "", { ...options, beams: 3 });
        expect(found!.logprob).toBeLessThan(best!.logprob + 1e-9);
        if (found!.logprob > greedy!.logprob) better += 1;
        const sum = found!.tokens.reduce((all, token, i) => {
          return all + logProbability(logitsAfter([1, ...found!.tokens.slice(0, i)], seed), token);
        }, 0);
        const end = logProbability(logitsAfter([1, ...found!.tokens], seed), 0);
        expect(found!.logprob).toBeCloseTo(found!.finishReason === "eos" ? sum + end : sum, 9);
      }),
      { numRuns: 50, seed: 1 },
    );
    expect(better).toBeGreaterThan(5);
  });

  test("ends as soon as no beam can be better than the worst candidate", async () => {
    const speaker = new StubSpeaker(5);
    const candidates = await beamSearch(speaker, "", { beams: 2, lengthPenalty: 0 }); // 100 tokens of context
    expect(candidates.map(({ finishReason }) => finishReason)).toEqual(["eos", "eos"]);
    expect(speaker.read).toBeLessThan(40);
  });

  test("ends with the context, and at stop tokens", async () => {
    const long = await beamSearch(new StubSpeaker(3, 4), "", { beams: 2, ignoreEos: true });
    expect(long.map(({ tokens, finishReason }) => [tokens.length, finishReason])).toEqual([
      [4, "context"],
      [4, "context"],
    ]);
    expect(long.flatMap(({ tokens }) => tokens)).not.toContain(0);
    const stopped = await beamSearch(new StubSpeaker(3), "", { beams: 3, ignoreEos: true, stopTokens: [2] });
    expect(stopped.every(({ finishReason, tokens }) => finishReason === "stop" && !tokens.includes(2))).toBe(true);
  });

  test("of logits that are all NaN is an error, and leaves no sequence behind", async () => {
    const speaker = new StubSpeaker(1);
    const sequence = { length: 1, forward: async () => new Float32Array(5).fill(Number.NaN), dispose: vi.fn() };
    vi.spyOn(speaker.runtime, "sequence").mockReturnValue(sequence as never);
    await expect(beamSearch(speaker, "")).rejects.toMatchObject({ code: "ERR_CRIA_NUMBERS" });
    expect(sequence.dispose).toHaveBeenCalledTimes(1);
  });
});

describe("of a model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(tinyModel, { contextLength: 512, onWarning: () => undefined });
  });
  afterAll(() => model.dispose());

  const allFree = () => model.runtime.pool.freeBlocks === model.runtime.pool.blocks;

  test.for(["Once upon a time", "Tom and Sue", "The", ""])("one beam is greedy: %j", async (prompt) => {
    for (const maxTokens of [1, 40, 300]) {
      const greedy = model.generate(prompt, { temperature: 0, maxTokens, logprobs: 0 });
      for await (const _ of greedy);
      const { text, tokens, finishReason, logprobs } = greedy.result!;
      const candidates = await model.beamSearch(prompt, { beams: 1, maxTokens });
      expect(candidates).toEqual([
        { text, tokens, finishReason, logprob: expect.any(Number), score: expect.any(Number) },
      ]);
      const sum = logprobs!.reduce((all, { logprob }) => all + logprob, 0);
      if (finishReason === "length") expect(candidates[0]!.logprob).toBeCloseTo(sum, 8);
      else expect(candidates[0]!.logprob).toBeLessThan(sum);
    }
  });

  test("gives texts whose log-probabilities are the model's, each beam in a run with the others", async () => {
    const run = native.programRun;
    const widths: number[] = [];
    const spy = vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
      widths.push((batch as NativeBatch).lengths.length);
      return run(program, cache, batch, width, cancel);
    });
    onTestFinished(() => spy.mockRestore());
    const candidates = await model.beamSearch("Once upon a time", { beams: 5, maxTokens: 25, ignoreEos: true });
    expect(widths).toEqual([1, ...new Array<number>(24).fill(5)]);
    expect(candidates).toHaveLength(5);
    expect(new Set(candidates.map(({ text }) => text)).size).toBe(5);
    const prompt = [model.tokenizer.bos!, ...model.tokenizer.encode("Once upon a time")];
    for (const [i, { tokens, logprob, score, text }] of candidates.entries()) {
      const scores = await model.logprobs(Int32Array.of(...prompt, ...tokens));
      const sum = scores.slice(prompt.length - 1).reduce((all, token) => all + token.logprob, 0);
      expect(logprob).toBeCloseTo(sum, 9);
      expect(score).toBe(logprob / 25);
      if (i > 0) expect(score).toBeLessThanOrEqual(candidates[i - 1]!.score);
      expect(text.startsWith(", ")).toBe(true);
    }
    expect(allFree()).toBe(true);
  });

  test("is stopped by a signal", async () => {
    const controller = new AbortController();
    const run = native.programRun;
    let runs = 0;
    const spy = vi.spyOn(native, "programRun").mockImplementation((...given) => {
      if (++runs === 5) setImmediate(() => controller.abort());
      return run(...given);
    });
    onTestFinished(() => spy.mockRestore());
    const search = model.beamSearch("Once upon a time", { beams: 3, ignoreEos: true, signal: controller.signal });
    await expect(search).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(allFree()).toBe(true);
  });

  test("holds nothing any more when it is told that the cache has no room", async () => {
    const small = await loadModel(tinyModel, { cacheSize: { tokens: 64 } });
    onTestFinished(() => small.dispose());
    const search = small.beamSearch("The cat", { beams: 16, maxTokens: 40 });
    await expect(search).rejects.toMatchObject({ code: "ERR_CRIA_CACHE_FULL" });
    expect(small.runtime.pool.freeBlocks).toBe(small.runtime.pool.blocks);
  });

  test.for<[object, RegExp]>([
    [{ beams: 0 }, /^beams: must be an integer from 1 to 256, not 0$/],
    [{ lengthPenalty: Number.NaN }, /^lengthPenalty: must be a number from -10 to 10, not NaN$/],
    [{ maxTokens: 0 }, /^maxTokens: must be an integer of at least 1, not 0$/],
    [{ stopTokens: [5000] }, /^stopTokens\[0\]: /],
    ...["stop", "temperature", "logitBias", "minTokens", "window"].map((name): [object, RegExp] => [
      { [name]: 1 },
      RegExp(`^options\\.${name}: is not an option of beamSearch$`),
    ]),
  ])("refuses %j", async ([options, message]) => {
    await expect(model.beamSearch("Hi", options as BeamSearchOptions)).rejects.toMatchObject({
      code: "ERR_CRIA_ARGUMENT",
      message: expect.stringMatching(message),
    });
  });
});
