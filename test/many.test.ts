import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import {
  type GenerateOptions,
  loadModel,
  type Model,
  type ModelOptions,
  type Samples,
  tinyModel,
} from "../lib/index.js";
import { type NativeBatch, native } from "../lib/native.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel, { contextLength: 1024, onWarning: () => undefined });
});
afterAll(() => model.dispose());

async function load(options: ModelOptions): Promise<Model> {
  const loaded = await loadModel(tinyModel, { onWarning: () => undefined, ...options });
  onTestFinished(() => loaded.dispose());
  return loaded;
}

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

/** The lengths of the sequences in each run from now on. */
function watchRuns(): number[][] {
  const run = native.programRun;
  const runs: number[][] = [];
  const spy = vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
    runs.push([...(batch as NativeBatch).lengths]);
    return run(program, cache, batch, width, cancel);
  });
  onTestFinished(() => spy.mockRestore());
  return runs;
}

async function texts(samples: Samples): Promise<string[]> {
  const texts: string[] = [];
  for await (const { index, text } of samples) texts[index] = (texts[index] ?? "") + text;
  return texts;
}

const options = { temperature: 1, maxTokens: 30, ignoreEos: true } satisfies GenerateOptions;

describe("several texts of one prompt", () => {
  // Of 5 tokens, in a block that the texts then share; of 16, a whole block; of more.
  test.for(["Once upon a time", "word ".repeat(15).trim(), "Once upon a time there was a cat. ".repeat(8)])(
    "are those of as many generations with the next seeds: %j",
    async (prompt) => {
      const seed = 2 ** 32 - 2; // the seeds go on at 0
      const samples = model.sample(prompt, { ...options, n: 5, seed, logprobs: 2 });
      expect(samples.results).toBeUndefined();
      const came = await texts(samples);
      for (const [i, result] of samples.results!.entries()) {
        const alone = model.generate(prompt, { ...options, seed: (seed + i) % 2 ** 32, logprobs: 2 });
        for await (const _ of alone);
        expect(result).toEqual({ ...alone.result!, timings: expect.anything() });
        expect(came[i]).toBe(result.text);
      }
      expect(new Set(came).size).toBe(5);
      expect(allFree(model)).toBe(true);
    },
  );

  test("read the prompt once, and then all together", async () => {
    const own = await load({ contextLength: 512 });
    const runs = watchRuns();
    const results = await own.sample("Tom had a red ball and", { ...options, n: 4, maxTokens: 10, seed: 1 }).finish();
    const { promptTokens } = results[0]!;
    expect(runs).toEqual([[promptTokens], ...new Array<number[]>(9).fill([1, 1, 1, 1])]);
    expect(results.map(({ tokens }) => tokens.length)).toEqual([10, 10, 10, 10]);
  });

  test("end each by itself, and tell of the prompt alike", async () => {
    const samples = model.sample("Tom", { temperature: 1.2, n: 6, seed: 5, maxTokens: 40, stop: ".", echo: true });
    const results = await samples.finish();
    expect(new Set(results.map(({ tokens }) => tokens.length)).size).toBeGreaterThan(1);
    expect(results.every(({ finishReason }) => finishReason === "stop")).toBe(true);
    for (const { promptLogprobs } of results) expect(promptLogprobs).toEqual(results[0]!.promptLogprobs);
  });

  test("may guess tokens, each for itself", async () => {
    const wish = { ...options, n: 3, seed: 8, maxTokens: 25 };
    const plain = await model.sample("Tom and Sue and Tom and", wish).finish();
    const guessing = await model
      .sample("Tom and Sue and Tom and", { ...wish, speculate: { adaptive: false } })
      .finish();
    expect(guessing.map(({ tokens }) => tokens)).toEqual(plain.map(({ tokens }) => tokens));
    expect(guessing.some(({ speculation }) => speculation!.proposed > 0)).toBe(true);
    expect(allFree(model)).toBe(true);
  });

  test("have a random seed between them that gives them again", async () => {
    const first = await model.sample("The cat", { ...options, n: 2 }).finish();
    const again = await model.sample("The cat", { ...options, n: 2, seed: first[0]!.seed }).finish();
    expect(again.map(({ text }) => text)).toEqual(first.map(({ text }) => text));
    expect(first[1]!.seed).toBe((first[0]!.seed + 1) % 2 ** 32);
  });

  test("give all their blocks back when the caller has enough of them", async () => {
    const samples = model.sample("The cat", { ...options, n: 3 });
    let pieces = 0;
    for await (const _ of samples) if (++pieces === 5) break;
    expect(samples.results!.map(({ finishReason }) => finishReason)).toEqual(new Array(3).fill("aborted"));
    expect(samples.results!.every(({ tokens }) => tokens.length > 0)).toBe(true);
    expect(allFree(model)).toBe(true);
    await expect(samples.finish()).rejects.toMatchObject({ code: "ERR_CRIA_STATE" });
  });

  test("are all stopped by a signal, before the prompt is read and after", async () => {
    for (const at of [0, 7]) {
      const controller = new AbortController();
      if (at === 0) controller.abort();
      let pieces = 0;
      const speak = async () => {
        for await (const _ of model.sample("The cat", { ...options, n: 3, signal: controller.signal })) {
          if (++pieces === at) controller.abort();
        }
      };
      await expect(speak()).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
      expect(pieces).toBeGreaterThanOrEqual(at);
      expect(allFree(model)).toBe(true);
    }
  });

  test("that the cache has no room for are an error, or take turns where they may", async () => {
    const prompt = "Once upon a time";
    const wish = { ...options, n: 4, seed: 3, maxTokens: 60 };
    const failing = (await load({ contextLength: 160 })).sample(prompt, wish);
    await expect(failing.finish()).rejects.toMatchObject({ code: "ERR_CRIA_CACHE_FULL" });
    const small = await load({ contextLength: 160, preempt: true });
    const expected = await model.sample(prompt, wish).finish();
    const results = await small.sample(prompt, wish).finish();
    expect(results.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
    expect(small.runtime.scheduler.preemptions).toBeGreaterThan(0);
    expect(allFree(small)).toBe(true);
  });

  test.for([
    [{ n: 0 }, /^n: must be an integer from 1 to 256, not 0$/],
    [{}, /^n: must be a number, not undefined$/],
    [{ n: 2, temperature: -1 }, /^temperature: must be/],
  ] as const)("refuse %j", ([wrong, message]) => {
    expect(() => model.sample("Hi", wrong as never)).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_ARGUMENT", message: expect.stringMatching(message) }),
    );
  });
});

describe("one text", () => {
  test("tells how far its prompt is read", async () => {
    const own = await load({ contextLength: 1024 });
    const prompt = Int32Array.from({ length: 600 }, (_, i) => 3 + ((i * 7) % 400));
    for (const echo of [false, true]) {
      const told: [number, number][] = [];
      const onProgress = (read: number, total: number) => told.push([read, total]);
      prompt[0]! += 1; // found in no cache
      for await (const _ of own.generate(prompt, { ...options, maxTokens: 3, echo, onProgress }));
      expect(told).toEqual([
        [256, 600],
        [512, 600],
        [600, 600],
      ]);
    }
  });

  test("goes before others by its priority", async () => {
    const own = await load({ contextLength: 1024 });
    const order: string[] = [];
    const say = async (name: string, first: number, priority?: number) => {
      const prompt = Int32Array.from({ length: 250 }, (_, i) => first + ((i * 7) % 400));
      for await (const _ of own.generate(prompt, { maxTokens: 1, ignoreEos: true, ...(priority && { priority }) }));
      order.push(name);
    };
    await Promise.all([say("low", 3, -1), say("plain", 4), say("high", 5, 2)]);
    expect(order).toEqual(["high", "plain", "low"]);
    expect(() => own.generate("Hi", { priority: Number.NaN })).toThrow(/^priority: must be a finite number, not NaN$/);
    expect(() => own.generate("Hi", { onProgress: 5 as never })).toThrow(/^onProgress: must be a function, not 5$/);
  });
});
