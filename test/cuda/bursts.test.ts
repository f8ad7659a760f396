/** Greedy texts on a GPU, whose tokens are drawn many in a run, beside the same texts made token by token. */
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import {
  type GenerateOptions,
  type Generation,
  type GenerationResult,
  loadModel,
  type Model,
  type ModelOptions,
  type Sequence,
  tinyModel,
} from "../../lib/index.js";
import { native } from "../../lib/native.js";
import { burstSteps } from "../../lib/scheduler.js";

const found = native.deviceDescribe("cuda-emulated");

afterEach(() => vi.restoreAllMocks());

const load = (options: ModelOptions = {}) =>
  loadModel(tinyModel, { device: "cuda-emulated", onWarning: () => undefined, ...options });

async function loadHere(options: ModelOptions): Promise<Model> {
  const model = await load(options);
  onTestFinished(() => model.dispose());
  return model;
}

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

const greedy = { temperature: 0 } as const;
/** Who wants each token's log-probability gets the tokens one by one. */
const plainly = { temperature: 0, logprobs: 0 } as const;

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

async function resultOf(generation: Generation): Promise<GenerationResult> {
  await collect(generation);
  return generation.result!;
}

/** What came out, but for what tells how it was made. */
const told = ({ text, tokens, promptTokens, finishReason, stop }: GenerationResult) => ({
  text,
  tokens,
  promptTokens,
  finishReason,
  stop,
});

/** The result of a text, and the tokens that its sequence had read at its end. */
async function made(model: Model, prompt: string, options: GenerateOptions) {
  const spy = vi.spyOn(model.runtime, "sequence");
  const result = told(await resultOf(model.generate(prompt, options)));
  const [sequence] = spy.mock.results.map(({ value }) => value as Sequence);
  spy.mockRestore();
  return { ...result, read: [...sequence!.tokens] };
}

/** The steps of each decode, and how many runs there are that give logits. */
function watch() {
  const decode = native.programDecode;
  const watched = { decodes: [] as number[], run: vi.spyOn(native, "programRun") };
  vi.spyOn(native, "programDecode").mockImplementation((...call) => {
    watched.decodes.push(call[5]);
    return decode(...call);
  });
  return watched;
}

const prompts = ["Once upon a time", "The dog", "One day, Tom and Sue went to the park.", "A red ball", "Lily said: "];

describe.runIf(found.available)("a greedy text on a GPU", () => {
  let model: Model;
  beforeAll(async () => {
    model = await load({ contextLength: 128, cacheSize: { tokens: 1024 } });
  });
  afterAll(() => {
    expect(allFree(model)).toBe(true);
    model.dispose();
  });

  test.each(prompts)("is that of reading token by token: %s", async (prompt) => {
    const expected = await made(model, prompt, { ...plainly, maxTokens: 40 });
    const { decodes } = watch();
    expect(await made(model, prompt, { ...greedy, maxTokens: 40 })).toEqual(expected);
    expect(decodes).toEqual([16, 16, 7]);
    expect(await made(model, prompt, { topK: 1, temperature: 2, maxTokens: 40 })).toEqual(expected);
    expect(decodes).toHaveLength(6);
  });

  test("takes no step too many, whatever its length", async () => {
    const prompt = "Once upon a time";
    const { tokens } = await made(model, prompt, { ...plainly, maxTokens: 40 });
    const { decodes, run } = watch();
    // About the edges of the first three bursts, the prompt having given the first token; and within each.
    for (const maxTokens of [1, 2, 3, 9, 16, 17, 18, 19, 25, 32, 33, 34, 35, 40]) {
      decodes.length = 0;
      run.mockClear();
      const result = await made(model, prompt, { ...greedy, maxTokens });
      expect(result).toMatchObject({ tokens: tokens.slice(0, maxTokens), finishReason: "length" });
      const steps = decodes.reduce((sum, count) => sum + count, 0);
      expect(steps + run.mock.calls.length - 1).toBe(maxTokens - 1); // but for the prompt's
      expect(decodes).toHaveLength(Math.floor((maxTokens - 1) / 16) + ((maxTokens - 1) % 16 > 1 ? 1 : 0));
    }
  });

  test("ends at a stop string, wherever in a burst it comes", async () => {
    const prompt = "One day, Tom";
    const whole = await resultOf(model.generate(prompt, { ...plainly, maxTokens: 24 }));
    const stops = new Set<string>();
    for (let end = 3; end <= whole.text.length; end += 2) stops.add(whole.text.slice(end - 3, end));
    const ends = new Set<number>();
    for (const stop of stops) {
      const result = await made(model, prompt, { ...greedy, stop, maxTokens: 24 });
      expect(result).toMatchObject({ text: whole.text.slice(0, whole.text.indexOf(stop)), finishReason: "stop", stop });
      expect(result.tokens).toEqual(whole.tokens.slice(0, result.tokens.length));
      // The token that completes it is chosen, and not read.
      expect(model.tokenizer.decode(Int32Array.from(result.tokens))).toContain(stop.trimStart());
      expect(result.read.slice(result.promptTokens)).toEqual(result.tokens.slice(0, -1));
      ends.add((result.tokens.length + burstSteps - 2) % burstSteps);
    }
    expect(ends.size).toBeGreaterThan(12);
  });

  test("ends at a stop token, wherever in a burst it comes", async () => {
    const prompt = "The dog";
    const whole = await resultOf(model.generate(prompt, { ...plainly, maxTokens: 24 }));
    for (const token of new Set(whole.tokens)) {
      const options = { stopTokens: [token], maxTokens: 24 };
      const result = await made(model, prompt, { ...greedy, ...options });
      const tokens = whole.tokens.slice(0, whole.tokens.indexOf(token));
      expect(result).toMatchObject({ tokens, finishReason: "stop", stop: token });
      expect(result.read.slice(result.promptTokens)).toEqual(tokens);
    }
  });

  test("ends with the context", async () => {
    const small = await loadHere({ contextLength: 32 });
    const expected = await made(small, "Once upon a time", plainly);
    expect(expected.finishReason).toBe("context");
    expect(await made(small, "Once upon a time", greedy)).toEqual(expected);
  });

  test("is made beside others, whose prompts come meanwhile", async () => {
    const wishes = prompts.flatMap((prompt, i) => [
      { prompt, maxTokens: 10 + 5 * i },
      { prompt: `${prompt} ${prompt} ${prompt}`, maxTokens: 30 - 5 * i },
    ]);
    const expected: GenerationResult[] = [];
    for (const { prompt, maxTokens } of wishes) {
      expected.push(await resultOf(model.generate(prompt, { ...plainly, maxTokens })));
    }
    const { decodes, run } = watch();
    const results: Promise<GenerationResult>[] = [];
    for (const { prompt, maxTokens } of wishes) {
      results.push(resultOf(model.generate(prompt, { ...greedy, maxTokens })));
      const so = decodes.length;
      while (results.length < wishes.length && decodes.length < so + 1)
        await new Promise((done) => setTimeout(done, 1));
    }
    expect((await Promise.all(results)).map(told)).toEqual(expected.map(told));
    expect(decodes.length).toBeGreaterThanOrEqual(wishes.length - 1);
    expect(run.mock.calls.length).toBeGreaterThanOrEqual(wishes.length);
    expect(allFree(model)).toBe(true);
  });

  test.each([false, true])("is made in a pool too small for all (preempt: %s)", async (preempt) => {
    const small = await loadHere({ contextLength: 96, preempt });
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await collect(small.generate(prompt, { ...plainly, maxTokens: 40 })));
    const { decodes } = watch();
    const together = await Promise.allSettled(
      prompts.map((prompt) => collect(small.generate(prompt, { ...greedy, maxTokens: 40 }))),
    );
    for (const [i, result] of together.entries()) {
      if (preempt || result.status === "fulfilled") expect(result).toEqual({ status: "fulfilled", value: alone[i] });
      else expect(result.reason.code).toBe("ERR_CRIA_CACHE_FULL");
    }
    expect(together[0]!.status).toBe("fulfilled");
    expect(decodes.some((steps) => steps > 1 && steps < burstSteps)).toBe(true);
    expect(allFree(small)).toBe(true);
  });

  test("that is aborted in a burst, or left, gives every block back, and the others go on", async () => {
    const expected = await collect(model.generate("A red ball", { ...plainly, maxTokens: 40 }));
    for (const way of ["aborted within", "aborted between", "left"]) {
      const controller = new AbortController();
      const { signal } = controller;
      const { decodes } = watch();
      const other = collect(model.generate("A red ball", { ...greedy, maxTokens: 40 }));
      const generation = model.generate("Once upon a time", { ...greedy, maxTokens: 60, signal });
      let pieces = 0;
      const reading = (async () => {
        for await (const _ of generation) {
          if (++pieces === 5 && way === "aborted between") controller.abort();
          if (pieces === 5 && way === "left") break;
        }
      })();
      if (way === "aborted within") {
        while (decodes.length < 2) await new Promise((done) => setTimeout(done, 1));
        controller.abort();
      }
      if (way === "left") await reading;
      else await expect(reading).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
      if (way !== "aborted within") expect(pieces).toBe(5);
      expect(generation.result!.finishReason).toBe("aborted");
      expect(await other).toBe(expected);
      expect(allFree(model)).toBe(true);
      vi.restoreAllMocks();
    }
  });

  test("is no longer given out once its conversation, or model, was disposed", async () => {
    const conversation = model.conversation();
    const reply = conversation.say("Once", greedy)[Symbol.asyncIterator]();
    for (let pieces = 0; pieces < 4; pieces++) await reply.next();
    conversation.dispose();
    await expect(reply.next()).rejects.toMatchObject({ code: "ERR_CRIA_DISPOSED" });
    expect(allFree(model)).toBe(true);

    for (const way of [plainly, greedy]) {
      const other = await load();
      const text = other.generate("Once", way)[Symbol.asyncIterator]();
      for (let pieces = 0; pieces < 4; pieces++) await text.next();
      other.dispose();
      await expect(text.next()).rejects.toMatchObject({ code: "ERR_CRIA_DISPOSED" });
    }
  });

  test("keeps its place while what was drawn is read slowly", async () => {
    const small = await loadHere({ cacheSize: { tokens: 64 }, contextLength: 64, preempt: true });
    const expected = await collect(small.generate("Once upon a time", { ...plainly, maxTokens: 20 }));
    let text = "";
    let newcomer: Promise<unknown> | undefined;
    for await (const piece of small.generate("Once upon a time", { ...greedy, maxTokens: 20 })) {
      text += piece;
      await new Promise((done) => setTimeout(done, 120));
      newcomer ??= collect(
        small.generate("The dog and the cat and the man and the sun. ".repeat(2), { ...greedy, maxTokens: 9 }),
      );
    }
    await newcomer;
    expect(text).toBe(expected);
    expect(small.runtime.scheduler.preemptions).toBe(0);
  });

  test("is a conversation's reply, after which it goes on as if the tokens had been read one by one", async () => {
    const turns = [
      { text: "Once upon a time", maxTokens: 21 },
      { text: " Then Tom", stop: "e", maxTokens: 30 },
      { text: "\nThe dog", left: 7 },
      { text: "", maxTokens: 5 },
      { text: " Sue said", stopTokens: [model.tokenizer.encode(".").at(-1)!], maxTokens: 40 },
    ];
    const spoken = async (how: typeof greedy | typeof plainly) => {
      const spy = vi.spyOn(model.runtime, "sequence");
      using conversation = model.conversation();
      const sequence = spy.mock.results[0]!.value as Sequence;
      spy.mockRestore();
      const after: unknown[] = [];
      for (const { text, left, ...options } of turns) {
        const reply = conversation.say(text, { ...how, ...options });
        let pieces = 0;
        for await (const _ of reply) if (++pieces === left) break;
        after.push({ ...told(reply.result!), tokens: [...conversation.tokens], read: sequence.length });
      }
      return after;
    };
    const expected = await spoken(plainly);
    const { decodes } = watch();
    expect(await spoken(greedy)).toEqual(expected);
    expect(decodes.length).toBeGreaterThan(4);
  });

  test("fails as token by token where logits are no numbers, which the device draws token 0 of", async () => {
    const model = await loadHere({ contextLength: 64 }); // whose cache will not hold what it seems to
    const expected = await made(model, "Once upon a time", { ...plainly, maxTokens: 20 });
    const drawn = vi.spyOn(native, "programDecode").mockImplementation(async (...call) => new Int32Array(call[5]));
    expect(await made(model, "Once upon a time", { ...greedy, maxTokens: 20 })).toEqual(expected);
    expect(drawn).toHaveBeenCalledTimes(18);

    const run = vi.spyOn(native, "programRun");
    const text = model.generate("Once upon a time", { ...greedy, maxTokens: 20 })[Symbol.asyncIterator]();
    await text.next();
    run.mockResolvedValue(new Float32Array(model.config.vocab).fill(Number.NaN));
    await expect(text.next()).rejects.toMatchObject({ code: "ERR_CRIA_NUMBERS" });
    expect(allFree(model)).toBe(true);
  });

  test("is each of several of one prompt", async () => {
    const options = { maxTokens: 12, n: 3 };
    const expected = await model.sample("Once upon a time", { ...plainly, ...options }).finish();
    const { decodes } = watch();
    const results = await model.sample("Once upon a time", { ...greedy, ...options }).finish();
    expect(results.map(told)).toEqual(expected.map(told));
    expect(decodes.length).toBeGreaterThan(0);
  });

  test.each<GenerateOptions>([
    { temperature: 0.8, topK: 2 },
    { repeatPenalty: 1.1 },
    { presencePenalty: 0.5 },
    { frequencyPenalty: 0.5 },
    { logitBias: { 300: 1 } },
    { typicalP: 0.9 },
    { minTokens: 2 },
    { ignoreEos: true },
    { logprobs: 0 },
    { speculate: "prompt" },
    { window: { size: 64 } },
  ])("is not drawn by the device where each step's logits are needed: %o", async (options) => {
    const { decodes } = watch();
    await collect(model.generate("Once upon a time", { ...greedy, seed: 1, maxTokens: 6, ...options }));
    expect(decodes).toEqual([]);
  });
});

test("a greedy text on a CPU is read token by token", async () => {
  const model = await loadHere({ device: "cpu" });
  const { decodes } = watch();
  await collect(model.generate("Once upon a time", { ...greedy, maxTokens: 20 }));
  expect(decodes).toEqual([]);
});
