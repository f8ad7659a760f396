import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadModel, type Model, tinyModel } from "../lib/index.js";
import { logProbability, type ScoredToken, scoreToken } from "../lib/logprobs.js";
import { measurePerplexity } from "../lib/perplexity.js";

const logits = Float32Array.of(1, Number.NEGATIVE_INFINITY, 3, 2, 3);
const total = Math.log(Math.E + Math.E ** 2 + 2 * Math.E ** 3);

describe("a token's score", () => {
  test("is ln softmax of the logits", () => {
    expect(logProbability(logits, 3)).toBeCloseTo(2 - total, 12);
    expect(logProbability(Float32Array.of(1000, 1000), 0)).toBeCloseTo(-Math.LN2, 12);
    const sum = [0, 1, 2, 3, 4].reduce((sum, token) => sum + Math.exp(logProbability(logits, token)), 0);
    expect(sum).toBeCloseTo(1, 12);
  });

  test("stands beside the best tokens', of equal ones the first first", () => {
    const scored = (token: number) => ({ token, logprob: expect.closeTo(logits[token]! - total, 12) });
    expect(scoreToken(logits, 0, 0)).toEqual({ ...scored(0), top: [] });
    expect(scoreToken(logits, 0, 3)).toEqual({ ...scored(0), top: [2, 4, 3].map(scored) });
    expect(scoreToken(logits, 2, 20)).toEqual({ ...scored(2), top: [2, 4, 3, 0].map(scored) });
  });
});

describe("of a model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(tinyModel);
  });
  afterAll(() => model.dispose());

  const text = "Once upon a time, there was a little girl named Lily.";
  const allFree = () => expect(model.runtime.pool.freeBlocks).toBe(model.runtime.pool.blocks);

  async function run(...args: Parameters<Model["generate"]>) {
    const generation = model.generate(...args);
    for await (const _ of generation);
    return generation.result!;
  }

  /** What the tokens' scores must be, from all logits at once. */
  async function expected(tokens: readonly number[], top: number): Promise<ScoredToken[]> {
    using sequence = model.sequence();
    const { vocab } = model.config;
    const logits = await sequence.forward(Int32Array.from(tokens), "all");
    return tokens.slice(1).map((token, i) => scoreToken(logits.subarray(i * vocab, (i + 1) * vocab), token, top));
  }

  const withBos = (text: string) => [model.tokenizer.bos!, ...model.tokenizer.encode(text)];

  test("logprobs scores a text, and its sum is the perplexity's", async () => {
    const scores = await model.logprobs(text, { top: 2 });
    expect(scores).toEqual(await expected(withBos(text), 2));
    expect(await model.logprobs(Int32Array.from(withBos(text)), { top: 2 })).toEqual(scores);
    const nll = -scores.reduce((sum, { logprob }) => sum + logprob, 0);
    expect(nll).toBeCloseTo((await measurePerplexity(model, text)).nll, 9);
    expect(await model.logprobs("")).toEqual([]);
    allFree();
  });

  test("logprobs refuses what does not fit, and leaves nothing behind", async () => {
    for (const top of [-1, 21, 0.5]) {
      await expect(model.logprobs(text, { top })).rejects.toThrow(/^top: must be an integer from 0 to 20/);
    }
    await expect(model.logprobs(new Int32Array(193).fill(300))).rejects.toThrow(
      expect.objectContaining({ code: "ERR_CRIA_CONTEXT" }),
    );
    await expect(model.logprobs(Int32Array.of(1, 5000))).rejects.toThrow(RangeError);
    await expect(model.logprobs(text, { signal: AbortSignal.abort() })).rejects.toThrow(
      expect.objectContaining({ code: "ERR_CRIA_ABORTED" }),
    );
    allFree();
  });

  test("a generation's are of its tokens, whatever the sampler does to the logits", async () => {
    const options = { seed: 5, maxTokens: 30, presencePenalty: 1, logitBias: { 300: 4 }, minTokens: 30 };
    const result = await run("Tom and Sue", { ...options, logprobs: 3 });
    const all = await expected([...withBos("Tom and Sue"), ...result.tokens], 3);
    expect(result.logprobs).toEqual(all.slice(-30));
    expect(result).not.toHaveProperty("promptLogprobs");
    const without = await run("Tom and Sue", options);
    expect(without.tokens).toEqual(result.tokens);
    expect(without).not.toHaveProperty("logprobs");
  });

  test("a greedy generation takes the first of them", async () => {
    const { logprobs, tokens } = await run("Tom", { temperature: 0, maxTokens: 10, logprobs: 1 });
    expect(logprobs!.map(({ top }) => top[0]!.token)).toEqual(tokens);
    for (const { logprob, top } of logprobs!) expect(top[0]!.logprob).toBe(logprob);
  });

  test("echo gives the prompt's, and changes nothing else", async () => {
    const plain = await run(text, { seed: 5, maxTokens: 8 });
    const echoed = await run(text, { seed: 5, maxTokens: 8, echo: true, logprobs: 2 });
    expect(echoed.promptLogprobs).toEqual(await model.logprobs(text, { top: 2 }));
    expect(echoed.tokens).toEqual(plain.tokens);
    const own = await run(text, { seed: 5, maxTokens: 8, echo: true });
    expect(own.promptLogprobs).toEqual(await model.logprobs(text));
    expect(own).not.toHaveProperty("logprobs");
    allFree();
  });
});
